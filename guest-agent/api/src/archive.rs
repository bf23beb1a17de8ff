//! A container's files: `/containers/{name}/archive`, `changes`, `export`, and `/commit`.

use std::io;

use base64::Engine as _;
use engine::containers::archive::{ExtractOptions, PathStat};
use engine::containers::commit::CommitRequest;
use futures_util::StreamExt;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyDataStream;
use serde_json::json;

use crate::body::{self, Answer, Body};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::whole;

type Result<T = Answer> = std::result::Result<T, ApiError>;

const TAR: &str = "application/x-tar";

/// The path that every request for an archive has.
fn path(call: &Call) -> Result<String> {
    match call.query.text("path") {
        Some(path) => Ok(path.to_owned()),
        None => Err(ApiError::invalid("bad parameter: 'path' cannot be empty")),
    }
}

fn with_stat(mut answer: Answer, stat: &PathStat) -> Result {
    let text = serde_json::to_vec(stat).unwrap_or_default();
    let text = base64::engine::general_purpose::STANDARD.encode(text);
    let value = HeaderValue::from_str(&text)
        .map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "a header could not be written"))?;
    answer.headers_mut().insert("x-docker-container-path-stat", value);
    Ok(answer)
}

/// `HEAD /containers/{name}/archive`
pub(crate) async fn stat(call: Call, name: &str) -> Result {
    let stat = call.engine.archive_stat(name, &path(&call)?).await?;
    with_stat(body::empty(StatusCode::OK), &stat)
}

/// `GET /containers/{name}/archive`
pub(crate) async fn get(call: Call, name: &str) -> Result {
    let (stat, archive) = call.engine.archive_get(name, &path(&call)?).await?;
    with_stat(body::with_type(StatusCode::OK, TAR, Body::Stream(archive)), &stat)
}

/// `PUT /containers/{name}/archive`
pub(crate) async fn put(call: Call, name: &str) -> Result {
    let options = ExtractOptions {
        path: path(&call)?,
        no_overwrite: call.query.flag("noOverwriteDirNonDir"),
        copy_owner: call.query.flag("copyUIDGID"),
    };
    let (engine, name) = (call.engine, name.to_owned());
    let archive = BodyDataStream::new(call.body).map(|data| data.map_err(io::Error::other));
    whole(async move { engine.archive_put(&name, options, Box::pin(archive)).await }).await?;
    Ok(body::empty(StatusCode::OK))
}

/// `GET /containers/{name}/export`
pub(crate) async fn export(call: Call, name: &str) -> Result {
    let archive = call.engine.export(name).await?;
    Ok(body::with_type(StatusCode::OK, "application/octet-stream", Body::Stream(archive)))
}

/// `GET /containers/{name}/changes`
pub(crate) async fn changes(call: Call, name: &str) -> Result {
    let changes = call.engine.changes(name).await?;
    // Without any, dockerd says `null`.
    Ok(body::json(StatusCode::OK, &(!changes.is_empty()).then_some(changes)))
}

/// `POST /commit`
pub(crate) async fn commit(mut call: Call) -> Result {
    let text = |name: &str| call.query.text(name).unwrap_or_default().to_owned();
    let request = CommitRequest {
        container: text("container"),
        repository: text("repo"),
        tag: text("tag"),
        comment: text("comment"),
        author: text("author"),
        pause: call.query.flag_or("pause", true),
        changes: call.query.all("changes").map(str::to_owned).collect(),
        config: None,
    };
    let config = call.json_if_any().await?;
    let engine = call.engine;
    let id = whole(async move { engine.commit(CommitRequest { config, ..request }).await }).await?;
    Ok(body::json(StatusCode::CREATED, &json!({ "Id": id })))
}
