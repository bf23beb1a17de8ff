//! `/_ping`, `/version`, `/info`, `/events` and `/system/df`.

use bytes::Bytes;
use engine::events::EventFilter;
use futures_util::StreamExt;
use http::{HeaderValue, StatusCode};

use crate::body::{self, Answer, Body};
use crate::call::Call;
use crate::error::ApiError;
use crate::stream::progress;

/// Finds the function of a path that is the engine's own.
pub(crate) async fn route(call: Call, method: &str, path: &[&str]) -> Result<Answer, ApiError> {
    match (method, path) {
        ("GET" | "HEAD", ["_ping"]) => Ok(ping()),
        ("GET", ["version"]) => version(&call),
        ("GET", ["info"]) => info(call).await,
        ("GET", ["events"]) => events(&call),
        ("GET", ["system", "df"]) => disk_usage(call).await,
        _ => Err(ApiError::page_not_found()),
    }
}

/// `GET /_ping` and `HEAD /_ping`
fn ping() -> Answer {
    let whole = Body::Whole(Bytes::from_static(b"OK"));
    let mut answer = body::with_type(StatusCode::OK, "text/plain; charset=utf-8", whole);
    let headers = answer.headers_mut();
    for (name, value) in [
        // 2 is BuildKit, the one builder that there is to be.
        ("builder-version", "2"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
        ("swarm", "inactive"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// `GET /version`
fn version(call: &Call) -> Result<Answer, ApiError> {
    Ok(body::json(StatusCode::OK, &call.engine.version()?))
}

/// `GET /info`
async fn info(call: Call) -> Result<Answer, ApiError> {
    Ok(body::json(StatusCode::OK, &call.engine.info().await?))
}

/// `GET /events`
fn events(call: &Call) -> Result<Answer, ApiError> {
    let filter = EventFilter {
        since: call.query.time("since")?,
        until: call.query.time("until")?,
        filters: call.query.filters()?,
    };
    if let (Some(since), Some(until)) = (filter.since, filter.until)
        && until < since
    {
        return Err(ApiError::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            call.query.get("since").unwrap_or_default(),
            call.query.get("until").unwrap_or_default()
        )));
    }
    let events = call.engine.events(filter)?.take_until(call.draining.clone().begun());
    Ok(body::stream("application/json", events.map(|event| Ok(progress::line(&*event)))))
}

/// `GET /system/df`
async fn disk_usage(call: Call) -> Result<Answer, ApiError> {
    let mut wanted = Vec::new();
    for kind in call.query.all("type") {
        match kind {
            "image" => wanted.extend(["Images", "LayersSize"]),
            "container" => wanted.push("Containers"),
            "volume" => wanted.push("Volumes"),
            "build-cache" => wanted.push("BuildCache"),
            _ => return Err(ApiError::invalid(format!("unknown object type: {kind}"))),
        }
    }
    let usage = call.engine.disk_usage().await?;
    if wanted.is_empty() {
        return Ok(body::json(StatusCode::OK, &usage));
    }
    let mut document = serde_json::to_value(&usage).unwrap_or_default();
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|name, _| wanted.contains(&name.as_str()));
    }
    Ok(body::json(StatusCode::OK, &document))
}
