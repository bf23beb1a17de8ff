//! `/containers`.

use engine::containers::request::{
    AttachOptions, CreateRequest, ExecConfig, ListOptions, LogOptions, RemoveOptions, Started, Stopped,
    WaitCondition,
};
use engine::containers::spec::CreateBody;
use engine::time::Time;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use hyper::body::Body as _;
use serde::Serialize;
use serde_json::json;

use crate::archive;
use crate::body::{self, Answer};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::whole;
use crate::stream::{attachment, frame, progress, websocket};

type Result<T = Answer> = std::result::Result<T, ApiError>;

/// Finds the function of a path below `/containers`.
pub(crate) async fn route(call: Call, method: &str, path: &[&str]) -> Result {
    match (method, path) {
        ("GET", ["json"]) => list(call).await,
        ("POST", ["create"]) => create(call).await,
        ("POST", ["prune"]) => prune(call).await,
        ("GET", [name, "json"]) => inspect(call, name).await,
        ("GET", [name, "logs"]) => logs(call, name).await,
        ("GET", [name, "stats"]) => stats(call, name).await,
        ("GET", [name, "top"]) => top(call, name).await,
        ("POST", [name, "attach"]) => attach(call, name).await,
        ("POST", [name, "exec"]) => exec_create(call, name).await,
        ("POST", [name, "kill"]) => kill(call, name).await,
        ("POST", [name, "pause"]) => pause(call, name).await,
        ("POST", [name, "rename"]) => rename(call, name).await,
        ("POST", [name, "resize"]) => resize(call, name).await,
        ("POST", [name, "restart"]) => restart(call, name).await,
        ("POST", [name, "start"]) => start(call, name).await,
        ("POST", [name, "stop"]) => stop(call, name).await,
        ("POST", [name, "unpause"]) => unpause(call, name).await,
        ("POST", [name, "wait"]) => wait(call, name).await,
        ("DELETE", [name]) => remove(call, name).await,
        ("GET", [name, "attach", "ws"]) => attach_by_web_socket(call, name).await,
        ("GET", [name, "changes"]) => archive::changes(call, name).await,
        ("GET", [name, "export"]) => archive::export(call, name).await,
        ("HEAD", [name, "archive"]) => archive::stat(call, name).await,
        ("GET", [name, "archive"]) => archive::get(call, name).await,
        ("PUT", [name, "archive"]) => archive::put(call, name).await,
        ("POST", [name, "update"]) => update(call, name).await,
        _ => Err(ApiError::page_not_found()),
    }
}

/// `GET /containers/json`
async fn list(call: Call) -> Result {
    let options = ListOptions {
        all: call.query.flag("all"),
        // Zero and negative limits are none.
        limit: call.query.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|n| *n > 0),
        size: call.query.flag("size"),
        filters: call.query.filters()?,
    };
    Ok(body::json(StatusCode::OK, &call.engine.list(options).await?))
}

/// `POST /containers/create`
async fn create(mut call: Call) -> Result {
    let Some(body) = call.json_if_any::<CreateBody>().await? else {
        return Err(ApiError::invalid("config cannot be empty in order to create a container"));
    };
    let request = CreateRequest {
        name: call.query.text("name").map(str::to_owned),
        config: body.config,
        host_config: body.host_config,
        networking: body.networking_config,
        platform: call.query.text("platform").map(str::to_owned),
    };
    let created = whole(async move { call.engine.create(request).await }).await?;
    Ok(body::json(StatusCode::CREATED, &created))
}

/// `POST /containers/prune`
async fn prune(call: Call) -> Result {
    let filters = call.query.filters()?;
    let pruned = whole(async move { call.engine.prune(filters).await }).await?;
    Ok(body::json(StatusCode::OK, &pruned))
}

/// `GET /containers/{name}/json`
async fn inspect(call: Call, name: &str) -> Result {
    let size = call.query.flag("size");
    Ok(body::json(StatusCode::OK, &call.engine.inspect(name, size).await?))
}

/// `GET /containers/{name}/logs`
async fn logs(call: Call, name: &str) -> Result {
    let options = LogOptions {
        follow: call.query.flag("follow"),
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        since: call.query.time("since")?,
        until: call.query.time("until")?.filter(|until| *until > Time::from_unix_nanos(0)),
        timestamps: call.query.flag("timestamps"),
        // As in dockerd, what is no number (`all`) and negative numbers mean every line.
        tail: call.query.text("tail").and_then(|tail| tail.parse().ok()),
        details: call.query.flag("details"),
    };
    if !options.stdout && !options.stderr {
        return Err(ApiError::invalid("Bad parameters: you must choose at least one stream"));
    }
    let logs = call.engine.logs(name, options).await?;
    let tty = logs.tty;
    let kind = content_type(&call, tty);
    let output = logs.output.take_until(call.draining.begun());
    Ok(body::stream(kind, output.map(move |chunk| Ok(attachment::framed(tty, chunk)))))
}

/// What a stream of output calls itself: before 1.42 always raw.
fn content_type(call: &Call, tty: bool) -> &'static str {
    if !tty && call.version.at_least(42) { frame::MULTIPLEXED } else { frame::RAW }
}

/// `GET /containers/{name}/stats`
async fn stats(call: Call, name: &str) -> Result {
    let (stream, one_shot) = (call.query.flag_or("stream", true), call.query.flag("one-shot"));
    if stream && one_shot {
        return Err(ApiError::invalid("cannot have stream=true and one-shot=true"));
    }
    let values = call.engine.stats(name, stream, one_shot).await?.take_until(call.draining.begun());
    Ok(body::stream("application/json", values.map(|value| Ok(progress::line(&value)))))
}

/// `GET /containers/{name}/top`
async fn top(call: Call, name: &str) -> Result {
    let arguments = call.query.text("ps_args").unwrap_or("-ef");
    Ok(body::json(StatusCode::OK, &call.engine.top(name, arguments).await?))
}

/// `POST /containers/{name}/attach`
async fn attach(mut call: Call, name: &str) -> Result {
    let options = attach_options(&call);
    if !call.body.is_end_stream() {
        call.discard_body().await?;
    }
    let attached = call.engine.attach(name, options).await?;
    let upgrade = call.upgrade();
    let kind = if upgrade.is_asked() { content_type(&call, attached.tty) } else { frame::RAW };
    match call.takeover.run(upgrade, kind, |raw| attachment::carry(raw, attached)).await {}
}

fn attach_options(call: &Call) -> AttachOptions {
    AttachOptions {
        detach_keys: call.query.text("detachKeys").map(str::to_owned),
        logs: call.query.flag("logs"),
        stream: call.query.flag("stream"),
        stdin: call.query.flag("stdin"),
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
    }
}

/// `GET /containers/{name}/attach/ws`
async fn attach_by_web_socket(call: Call, name: &str) -> Result {
    let head = websocket::accept(&call.headers)?;
    let attached = call.engine.attach(name, attach_options(&call)).await?;
    // Binary messages came with 1.28.
    let text = !call.version.at_least(28);
    match call.takeover.run_behind(head, move |raw| websocket::carry(raw, attached, text)).await {}
}

/// `POST /containers/{name}/exec`
async fn exec_create(mut call: Call, name: &str) -> Result {
    let config: ExecConfig = call.json().await?;
    if config.cmd.as_ref().is_none_or(|words| words.0.is_empty()) {
        return Err(ApiError::invalid("No exec command specified"));
    }
    let name = name.to_owned();
    let id = whole(async move { call.engine.exec_create(&name, config).await }).await?;
    Ok(body::json(StatusCode::CREATED, &json!({ "Id": id })))
}

/// `POST /containers/{name}/kill`
async fn kill(call: Call, name: &str) -> Result {
    let name = name.to_owned();
    whole(async move { call.engine.kill(&name, call.query.text("signal")).await }).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{name}/pause`
async fn pause(call: Call, name: &str) -> Result {
    let name = name.to_owned();
    whole(async move { call.engine.pause(&name).await }).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{name}/unpause`
async fn unpause(call: Call, name: &str) -> Result {
    let name = name.to_owned();
    whole(async move { call.engine.unpause(&name).await }).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{name}/rename`
async fn rename(call: Call, name: &str) -> Result {
    let name = name.to_owned();
    whole(async move { call.engine.rename(&name, call.query.get("name").unwrap_or_default()).await }).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{name}/resize`
async fn resize(call: Call, name: &str) -> Result {
    let (width, height) = size(&call)?;
    call.engine.resize(name, width, height).await?;
    Ok(body::empty(StatusCode::OK))
}

/// The `w` and `h` of a resize.
pub(crate) fn size(call: &Call) -> Result<(u16, u16)> {
    let side = |name: &str, what: &str| {
        let value = call.query.number(name)?.unwrap_or(0);
        u16::try_from(value).map_err(|_| ApiError::invalid(format!("invalid resize {what} {value}")))
    };
    Ok((side("w", "width")?, side("h", "height")?))
}

/// `POST /containers/{name}/restart`
async fn restart(call: Call, name: &str) -> Result {
    let (name, timeout) = (name.to_owned(), call.query.number("t")?);
    whole(async move { call.engine.restart(&name, call.query.text("signal"), timeout).await }).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{name}/start`
async fn start(call: Call, name: &str) -> Result {
    // Seven bytes are what clients send as an empty document in its longest spelling.
    if call.body.size_hint().lower() > 7 {
        return Err(ApiError::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    let name = name.to_owned();
    Ok(body::empty(match whole(async move { call.engine.start_container(&name).await }).await? {
        Started::Now => StatusCode::NO_CONTENT,
        Started::Already => StatusCode::NOT_MODIFIED,
    }))
}

/// `POST /containers/{name}/stop`
async fn stop(call: Call, name: &str) -> Result {
    let (name, timeout) = (name.to_owned(), call.query.number("t")?);
    let stopped =
        whole(async move { call.engine.stop(&name, call.query.text("signal"), timeout).await }).await?;
    Ok(body::empty(match stopped {
        Stopped::Now => StatusCode::NO_CONTENT,
        Stopped::Already => StatusCode::NOT_MODIFIED,
    }))
}

/// `POST /containers/{name}/update`
async fn update(mut call: Call, name: &str) -> Result {
    let host_config = call.json().await?;
    let (engine, name) = (call.engine, name.to_owned());
    let updated = whole(async move { engine.update(&name, host_config).await }).await?;
    Ok(body::json(StatusCode::OK, &updated))
}

/// How a wait ended, on the wire.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Waited {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<WaitError>,
    status_code: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WaitError {
    message: String,
}

/// `POST /containers/{name}/wait`
///
/// The head is sent as soon as the wait is registered: `docker run` starts the container only then.
async fn wait(call: Call, name: &str) -> Result {
    // The parameter came with 1.30; before, every wait was for the container not to run.
    let wanted = if call.version.at_least(30) { call.query.get("condition").unwrap_or_default() } else { "" };
    let Some(condition) = WaitCondition::parse(wanted) else {
        return Err(ApiError::invalid(format!("invalid condition: \"{wanted}\"")));
    };
    let waiting = call.engine.wait(name, condition).await?;
    let result = async move {
        let result = waiting.result().await;
        let error = result.error.map(|message| WaitError { message });
        Ok(progress::line(&Waited { error, status_code: result.status_code }))
    };
    Ok(body::stream("application/json", stream::once(result)))
}

/// `DELETE /containers/{name}`
async fn remove(call: Call, name: &str) -> Result {
    let name = name.to_owned();
    let options = RemoveOptions {
        force: call.query.flag("force"),
        volumes: call.query.flag("v"),
        link: call.query.flag("link"),
    };
    whole(async move { call.engine.remove(&name, options).await }).await?;
    Ok(body::empty(StatusCode::NO_CONTENT))
}
