//! One request on its way to a handler: what it asked, and the means to answer it.

use bytes::{Bytes, BytesMut};
use engine::Engine;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use serde::de::DeserializeOwned;

use crate::connection::Draining;
use crate::error::ApiError;
use crate::query::Query;
use crate::stream::hijack::{Takeover, Upgrade};
use crate::version::Version;

/// A request, parsed as far as every handler needs it.
pub(crate) struct Call {
    pub(crate) engine: Engine,
    pub(crate) version: Version,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
    pub(crate) takeover: Takeover,
    /// The most bytes that a JSON body may have.
    pub(crate) json_limit: usize,
    pub(crate) draining: Draining,
}

impl Call {
    /// Whether the client asked to switch protocols.
    pub(crate) fn upgrade(&self) -> Upgrade {
        Upgrade::asked(&self.headers)
    }

    /// The JSON body, or the default where there is none, which dockerd lets pass.
    pub(crate) async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T, ApiError> {
        Ok(self.json_if_any().await?.unwrap_or_default())
    }

    /// The JSON body, if there is one.
    pub(crate) async fn json_if_any<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        let empty = self.body.is_end_stream() || self.body.size_hint().exact() == Some(0);
        check_content_type(self.headers.get(header::CONTENT_TYPE), empty)?;
        if empty {
            return Ok(None);
        }
        let text = self.bounded_body().await?;
        parse_json(&text).map(Some)
    }

    /// Reads the body and forgets it, so that the connection can be used for what follows.
    pub(crate) async fn discard_body(&mut self) -> Result<(), ApiError> {
        self.bounded_body().await.map(drop)
    }

    async fn bounded_body(&mut self) -> Result<Bytes, ApiError> {
        let limit = self.json_limit;
        let too_large = || {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("request body is larger than {limit} bytes"))
        };
        if self.body.size_hint().lower() > limit as u64 {
            return Err(too_large());
        }
        let mut text = BytesMut::new();
        while let Some(frame) = self.body.frame().await {
            let frame =
                frame.map_err(|error| ApiError::invalid(format!("error reading request body: {error}")))?;
            if let Ok(data) = frame.into_data() {
                if text.len() + data.len() > limit {
                    return Err(too_large());
                }
                text.extend_from_slice(&data);
            }
        }
        Ok(text.freeze())
    }
}

fn check_content_type(value: Option<&http::HeaderValue>, empty: bool) -> Result<(), ApiError> {
    let text = match value.map(http::HeaderValue::to_str) {
        Some(Ok(text)) => text,
        Some(Err(_)) => return Err(ApiError::invalid("malformed Content-Type header")),
        None => "",
    };
    let kind = text.split(';').next().unwrap_or_default().trim();
    // Without a body the type does not matter: clients send `text/plain` with an empty one.
    if empty || kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    if kind.is_empty() {
        return Err(ApiError::invalid("malformed Content-Type header (): mime: no media type"));
    }
    Err(ApiError::invalid(format!("unsupported Content-Type header ({text}): must be 'application/json'")))
}

/// Parses one JSON document; words its errors as dockerd does, as far as clients could tell.
fn parse_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, ApiError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::invalid("invalid JSON: got EOF while reading request body"));
    }
    let mut documents = serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Value>();
    match documents.next() {
        Some(Ok(document)) => {
            let rest = &text[documents.byte_offset()..];
            if rest.iter().all(u8::is_ascii_whitespace) {
                engine::json::from_value(document)
                    .map_err(|error| ApiError::invalid(format!("invalid JSON: {error}")))
            } else {
                Err(ApiError::invalid("unexpected content after JSON"))
            }
        }
        Some(Err(error)) => Err(ApiError::invalid(format!("invalid JSON: {}", describe(text, &error)))),
        None => Err(ApiError::invalid("invalid JSON: got EOF while reading request body")),
    }
}

fn describe(text: &[u8], error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Eof => "unexpected EOF".to_owned(),
        serde_json::error::Category::Syntax => {
            let line = text.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1));
            let byte = line.and_then(|line| line.get(error.column().saturating_sub(1)));
            let what = error.to_string();
            let what = what.split(" at line").next().unwrap_or_default();
            match (byte, what) {
                (Some(byte), "expected value") => {
                    format!("invalid character '{}' looking for beginning of value", byte.escape_ascii())
                }
                (Some(byte), _) => format!("invalid character '{}': {what}", byte.escape_ascii()),
                (None, _) => what.to_owned(),
            }
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn refusal(text: &str) -> String {
        parse_json::<Value>(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn one_document_is_read() {
        assert_eq!(parse_json::<Value>(b" {\"a\": 1}\n").unwrap()["a"], 1);
    }

    #[test]
    fn broken_json_is_refused_in_dockerd_words() {
        assert_eq!(refusal("  "), "invalid JSON: got EOF while reading request body");
        assert_eq!(refusal("{\"a\":"), "invalid JSON: unexpected EOF");
        assert_eq!(refusal("hello"), "invalid JSON: invalid character 'h' looking for beginning of value");
        assert_eq!(refusal("{} {}"), "unexpected content after JSON");
        assert_eq!(refusal("{}trailing"), "unexpected content after JSON");
        assert!(parse_json::<Vec<i32>>(b"[\"a\"]").unwrap_err().to_string().starts_with("invalid JSON: "));
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(refusal(&"[".repeat(100_000)).starts_with("invalid JSON: "));
    }

    #[test]
    fn a_body_must_say_that_it_is_json() {
        let check = |text: &'static str, empty| {
            check_content_type(Some(&http::HeaderValue::from_static(text)), empty).map_err(|e| e.to_string())
        };
        assert_eq!(check("application/json; charset=utf-8", false), Ok(()));
        assert_eq!(check("text/plain", true), Ok(()));
        assert_eq!(
            check("text/plain", false),
            Err("unsupported Content-Type header (text/plain): must be 'application/json'".into())
        );
        assert_eq!(check_content_type(None, true), Ok(()));
        assert!(check_content_type(None, false).is_err());
    }
}
