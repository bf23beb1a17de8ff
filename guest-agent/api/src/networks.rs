//! `/networks`.

use engine::networks::{ConnectNetwork, CreateNetwork, DisconnectNetwork};
use http::StatusCode;

use crate::body::{self, Answer};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::whole;

/// Finds the function of a path below `/networks`.
pub(crate) async fn route(call: Call, method: &str, path: &[&str]) -> Result<Answer, ApiError> {
    match (method, path) {
        ("GET", [] | [""]) => list(call).await,
        ("POST", ["create"]) => create(call).await,
        ("POST", ["prune"]) => prune(call).await,
        ("GET", [name]) => inspect(call, name).await,
        ("DELETE", [name]) => remove(call, name).await,
        ("POST", [name, "connect"]) => connect(call, name).await,
        ("POST", [name, "disconnect"]) => disconnect(call, name).await,
        _ => Err(ApiError::page_not_found()),
    }
}

/// `GET /networks`
async fn list(call: Call) -> Result<Answer, ApiError> {
    let filters = call.query.filters()?;
    Ok(body::json(StatusCode::OK, &call.engine.networks().list(filters).await?))
}

/// `POST /networks/create`
async fn create(mut call: Call) -> Result<Answer, ApiError> {
    let request: CreateNetwork = call.json().await?;
    let created = whole(async move { call.engine.networks().create(request).await }).await?;
    Ok(body::json(StatusCode::CREATED, &created))
}

/// `POST /networks/prune`
async fn prune(call: Call) -> Result<Answer, ApiError> {
    let filters = call.query.filters()?;
    let pruned = whole(async move { call.engine.networks().prune(filters).await }).await?;
    Ok(body::json(StatusCode::OK, &pruned))
}

/// `GET /networks/{name}`
async fn inspect(call: Call, name: &str) -> Result<Answer, ApiError> {
    Ok(body::json(StatusCode::OK, &call.engine.networks().inspect(name).await?))
}

/// `DELETE /networks/{name}`
async fn remove(call: Call, name: &str) -> Result<Answer, ApiError> {
    let name = name.to_owned();
    whole(async move { call.engine.networks().remove(&name).await }).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

/// `POST /networks/{name}/connect`
async fn connect(mut call: Call, name: &str) -> Result<Answer, ApiError> {
    let (name, request): (_, ConnectNetwork) = (name.to_owned(), call.json().await?);
    whole(async move { call.engine.networks().connect(&name, request).await }).await?;
    Ok(body::empty(StatusCode::OK))
}

/// `POST /networks/{name}/disconnect`
async fn disconnect(mut call: Call, name: &str) -> Result<Answer, ApiError> {
    let (name, request): (_, DisconnectNetwork) = (name.to_owned(), call.json().await?);
    whole(async move { call.engine.networks().disconnect(&name, request).await }).await?;
    Ok(body::empty(StatusCode::OK))
}
