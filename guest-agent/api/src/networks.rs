//! `/networks`.

use http::StatusCode;
use serde_json::json;

use crate::body::{self, Answer};
use crate::call::Call;
use crate::error::ApiError;

/// Finds the function of a path below `/networks`.
pub(crate) async fn route(call: Call, method: &str, path: &[&str]) -> Result<Answer, ApiError> {
    match (method, path) {
        ("GET", [] | [""]) => list(call).await,
        ("GET", [name]) => inspect(call, name).await,
        ("POST", ["create"]) => Err(ApiError::not_implemented("creating networks")),
        // Only the three networks exist that are never pruned: `docker system prune` asks.
        ("POST", ["prune"]) => Ok(body::json(StatusCode::OK, &json!({ "NetworksDeleted": null }))),
        ("POST", [_, "connect"]) => Err(ApiError::not_implemented("connecting a container to a network")),
        ("POST", [_, "disconnect"]) => {
            Err(ApiError::not_implemented("disconnecting a container from a network"))
        }
        ("DELETE", [_]) => Err(ApiError::not_implemented("removing networks")),
        _ => Err(ApiError::page_not_found()),
    }
}

/// `GET /networks`
async fn list(call: Call) -> Result<Answer, ApiError> {
    let filters = call.query.filters()?;
    Ok(body::json(StatusCode::OK, &call.engine.networks().list(filters).await?))
}

/// `GET /networks/{name}`
async fn inspect(call: Call, name: &str) -> Result<Answer, ApiError> {
    Ok(body::json(StatusCode::OK, &call.engine.networks().inspect(name).await?))
}
