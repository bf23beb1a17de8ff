//! `/exec`: processes beside a container's own.

use engine::containers::request::ExecStart;
use http::StatusCode;

use crate::body::{self, Answer};
use crate::call::Call;
use crate::containers::size;
use crate::error::ApiError;
use crate::router::whole;
use crate::stream::{attachment, frame};

/// Finds the function of a path below `/exec`.
pub(crate) async fn route(call: Call, method: &str, path: &[&str]) -> Result<Answer, ApiError> {
    match (method, path) {
        ("GET", [id, "json"]) => inspect(call, id).await,
        ("POST", [id, "start"]) => start(call, id).await,
        ("POST", [id, "resize"]) => resize(call, id).await,
        _ => Err(ApiError::page_not_found()),
    }
}

/// `GET /exec/{id}/json`
async fn inspect(call: Call, id: &str) -> Result<Answer, ApiError> {
    Ok(body::json(StatusCode::OK, &call.engine.exec_inspect(id).await?))
}

/// `POST /exec/{id}/start`
async fn start(mut call: Call, id: &str) -> Result<Answer, ApiError> {
    let options: ExecStart = call.json().await?;
    let (engine, id) = (call.engine.clone(), id.to_owned());
    let Some(attached) = whole(async move { engine.exec_start(&id, options).await }).await? else {
        return Ok(body::empty(StatusCode::OK));
    };
    let upgrade = call.upgrade();
    let multiplexed = !attached.tty && upgrade.is_asked() && call.version.at_least(42);
    let kind = if multiplexed { frame::MULTIPLEXED } else { frame::RAW };
    match call.takeover.run(upgrade, kind, |raw| attachment::carry(raw, attached)).await {}
}

/// `POST /exec/{id}/resize`
async fn resize(call: Call, id: &str) -> Result<Answer, ApiError> {
    let (width, height) = size(&call)?;
    call.engine.exec_resize(id, width, height).await?;
    Ok(body::empty(StatusCode::OK))
}
