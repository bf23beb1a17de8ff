//! What a registry says when it refuses, in an error's words.

use std::time::Duration;

use bytes::Bytes;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;

use super::auth::Challenge;
use crate::RegistryError;

/// Longer than any explanation.
const MAX_EXPLANATION: usize = 64 * 1024;

pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    values.filter_map(|value| Challenge::parse(value.to_str().ok()?)).collect()
}

pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[derive(Deserialize)]
struct Explanation {
    #[serde(default)]
    errors: Vec<Problem>,
    #[serde(default, alias = "detail")]
    details: Option<String>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Turns an unsuccessful answer into an error in the registry's own words.
pub(super) async fn explain(response: Response<Incoming>, method: &Method, url: String) -> RegistryError {
    let status = response.status();
    // RFC 6750: the header says it more precisely than the body.
    for challenge in challenges(response.headers()) {
        let described =
            |default: &str| challenge.parameter("error_description").unwrap_or(default).to_owned();
        match challenge.parameter("error") {
            Some("insufficient_scope") if status == StatusCode::UNAUTHORIZED => {
                let message = described("requested access to the resource is denied");
                return RegistryError::Answer { status: status.as_u16(), code: "DENIED".to_owned(), message };
            }
            Some("invalid_token") => {
                return RegistryError::Unauthorized { message: described("authentication required") };
            }
            _ => {}
        }
    }
    let body = http_body_util::Limited::new(response.into_body(), MAX_EXPLANATION).collect();
    let body = match tokio::time::timeout(Duration::from_secs(5), body).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    };
    let explanation = serde_json::from_slice::<Explanation>(&body).ok();
    let details = explanation.as_ref().and_then(|explanation| explanation.details.clone());
    let first = explanation.and_then(|explanation| explanation.errors.into_iter().next());
    let message =
        first.as_ref().map(|problem| problem.message.clone()).filter(|text| !text.is_empty()).or(details);
    match (status, first) {
        (StatusCode::TOO_MANY_REQUESTS, _) => {
            RegistryError::RateLimited { message: message.unwrap_or_else(|| "too many requests".to_owned()) }
        }
        (_, Some(problem)) if problem.code == "UNAUTHORIZED" => RegistryError::Unauthorized {
            message: message.unwrap_or_else(|| "authentication required".to_owned()),
        },
        (_, Some(problem)) if !problem.code.is_empty() => RegistryError::Answer {
            status: status.as_u16(),
            message: message.unwrap_or_else(|| problem.code.to_ascii_lowercase().replace('_', " ")),
            code: problem.code,
        },
        (StatusCode::UNAUTHORIZED, _) => RegistryError::Unauthorized {
            message: message.unwrap_or_else(|| "authentication required".to_owned()),
        },
        _ => RegistryError::Status { method: spoken(method), url, status: status.as_u16() },
    }
}

/// A method as Go's errors spell it, which clients show.
fn spoken(method: &Method) -> &'static str {
    match *method {
        Method::HEAD => "Head",
        Method::POST => "Post",
        Method::PUT => "Put",
        Method::PATCH => "Patch",
        Method::DELETE => "Delete",
        _ => "Get",
    }
}
