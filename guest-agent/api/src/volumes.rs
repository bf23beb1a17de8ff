//! `/volumes`.

use engine::volumes::CreateVolume;
use http::StatusCode;

use crate::body::{self, Answer};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::whole;

/// Finds the function of a path below `/volumes`.
pub(crate) async fn route(call: Call, method: &str, path: &[&str]) -> Result<Answer, ApiError> {
    match (method, path) {
        ("GET", []) => list(call).await,
        ("POST", ["create"]) => create(call).await,
        ("POST", ["prune"]) => prune(call).await,
        ("GET", [name]) => inspect(call, name).await,
        ("DELETE", [name]) => remove(call, name).await,
        // Only cluster volumes can be updated.
        ("PUT", [_]) => Err(ApiError::not_a_swarm_manager()),
        _ => Err(ApiError::page_not_found()),
    }
}

/// `GET /volumes`
async fn list(call: Call) -> Result<Answer, ApiError> {
    let filters = call.query.filters()?;
    Ok(body::json(StatusCode::OK, &call.engine.volumes().list(filters).await?))
}

/// `POST /volumes/create`
async fn create(mut call: Call) -> Result<Answer, ApiError> {
    let request: CreateVolume = call.json().await?;
    let volume = whole(async move { call.engine.volumes().create(request).await }).await?;
    Ok(body::json(StatusCode::CREATED, &volume))
}

/// `POST /volumes/prune`
async fn prune(call: Call) -> Result<Answer, ApiError> {
    let mut filters = call.query.filters()?;
    // Until 1.42 a prune took named volumes too.
    if !call.version.at_least(42) && !filters.has("all") {
        filters.add("all", "true");
    }
    let pruned = whole(async move { call.engine.volumes().prune(filters).await }).await?;
    Ok(body::json(StatusCode::OK, &pruned))
}

/// `GET /volumes/{name}`
async fn inspect(call: Call, name: &str) -> Result<Answer, ApiError> {
    Ok(body::json(StatusCode::OK, &call.engine.volumes().inspect(name).await?))
}

/// `DELETE /volumes/{name}`
async fn remove(call: Call, name: &str) -> Result<Answer, ApiError> {
    let (name, force) = (name.to_owned(), call.query.flag("force"));
    whole(async move { call.engine.volumes().remove(&name, force).await }).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}
