//! What went wrong, as an HTTP status and dockerd's `{"message": …}`.

use http::StatusCode;
use serde::Serialize;

use crate::body::{self, Answer};

/// A refusal: the status that clients branch on and the sentence that they print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

#[derive(Serialize)]
struct Document<'a> {
    message: &'a str,
}

impl ApiError {
    /// A refusal with a status of its own.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into() }
    }

    /// 400: the request makes no sense.
    pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404 for a path that is not in the API at all.
    pub(crate) fn page_not_found() -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "page not found")
    }

    /// 501 for what is in the API but not served by this engine.
    pub(crate) fn not_implemented(what: &str) -> ApiError {
        ApiError::new(StatusCode::NOT_IMPLEMENTED, format!("{what} is not supported by this engine"))
    }

    /// 503, as an engine answers that is no swarm manager.
    pub(crate) fn not_a_swarm_manager() -> ApiError {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
             this node to swarm and try again.",
        )
    }

    /// The status of an engine's failure.
    fn status_of(kind: engine::Kind) -> StatusCode {
        match kind {
            engine::Kind::NotFound => StatusCode::NOT_FOUND,
            engine::Kind::Conflict => StatusCode::CONFLICT,
            engine::Kind::InvalidParameter => StatusCode::BAD_REQUEST,
            engine::Kind::NotModified => StatusCode::NOT_MODIFIED,
            engine::Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            engine::Kind::Forbidden => StatusCode::FORBIDDEN,
            engine::Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            engine::Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            engine::Kind::System => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The response; 304 has no body by definition.
    pub(crate) fn answer(&self) -> Answer {
        if self.status == StatusCode::NOT_MODIFIED {
            return body::empty(self.status);
        }
        body::json(self.status, &Document { message: &self.message })
    }
}

impl From<engine::Error> for ApiError {
    fn from(error: engine::Error) -> ApiError {
        ApiError { status: ApiError::status_of(error.kind), message: error.message }
    }
}
