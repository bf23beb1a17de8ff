//! From a request's head to the function that serves it, and the headers that every answer carries.

use std::future::Future;

use engine::system::API_VERSION;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;

use crate::body::Answer;
use crate::call::Call;
use crate::connection::Served;
use crate::error::ApiError;
use crate::query::{self, Query};
use crate::stream::hijack::Takeover;
use crate::version;
use crate::{archive, containers, exec, images, networks, system, unserved, volumes};

/// Answers one request, whatever it is.
pub(crate) async fn answer(served: Served, request: Request<Incoming>, takeover: Takeover) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut answer = match dispatch(served, request, takeover).await {
        Ok(answer) => answer,
        Err(error) => {
            if error.status.is_server_error() {
                tracing::warn!(%method, path, status = error.status.as_u16(), "{error}");
            }
            error.answer()
        }
    };
    tracing::debug!(%method, path, status = answer.status().as_u16(), "answered");
    identify(answer.headers_mut());
    answer
}

/// The headers by which clients know the engine; they look at them on any answer, errors too.
fn identify(headers: &mut HeaderMap) {
    for (name, value) in [
        ("api-version", API_VERSION),
        ("docker-experimental", "false"),
        ("ostype", "linux"),
        ("server", concat!("Sampan/", env!("CARGO_PKG_VERSION"), " (linux)")),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

async fn dispatch(
    served: Served,
    request: Request<Incoming>,
    takeover: Takeover,
) -> Result<Answer, ApiError> {
    let (head, body) = request.into_parts();
    let (version, path) = version::split_prefix(head.uri.path())?;
    let query = Query::parse(head.uri.query())?;
    let Served { engine, json_limit, draining } = served;
    let call = Call { engine, version, query, headers: head.headers, body, takeover, json_limit, draining };
    let decoded = path
        .split('/')
        .skip(1)
        .map(|segment| query::decode(segment, false))
        .collect::<Result<Vec<String>, ApiError>>()?;
    let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let method = head.method.as_str();
    match segments.as_slice() {
        ["containers", rest @ ..] => containers::route(call, method, rest).await,
        ["exec", rest @ ..] => exec::route(call, method, rest).await,
        ["images", rest @ ..] => images::route(call, method, rest).await,
        ["networks", rest @ ..] => networks::route(call, method, rest).await,
        ["volumes", rest @ ..] => volumes::route(call, method, rest).await,
        ["_ping" | "version" | "info" | "events" | "system", ..] => {
            system::route(call, method, &segments).await
        }
        ["auth"] if method == "POST" => images::log_in(call).await,
        ["distribution", name @ .., "json"] if method == "GET" && !name.is_empty() => {
            images::describe(call, &name.join("/")).await
        }
        ["commit"] if method == "POST" => archive::commit(call).await,
        _ => unserved::route(method, &segments),
    }
}

/// Runs an operation to its end even when the client leaves in the middle of it.
pub(crate) async fn whole<T: Send + 'static>(
    work: impl Future<Output = engine::Result<T>> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::spawn(work).await {
        Ok(result) => result.map_err(ApiError::from),
        Err(error) => {
            tracing::error!(%error, "an operation ended unexpectedly");
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the operation ended unexpectedly"))
        }
    }
}
