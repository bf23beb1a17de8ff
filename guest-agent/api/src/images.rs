//! `/images`. An image's name may hold slashes, so paths are matched from both ends.

use std::io;

use engine::images::{ImageListOptions, ImportRequest, PullRequest, PushRequest, SearchOptions};
use futures_util::StreamExt;
use http::StatusCode;
use http_body_util::BodyDataStream;
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::io::StreamReader;

use crate::body::{self, Answer, Body};
use crate::call::Call;
use crate::error::ApiError;
use crate::registry_auth;
use crate::router::whole;
use crate::stream::progress;
use crate::version::Version;

type Result<T = Answer> = std::result::Result<T, ApiError>;

/// Finds the function of a path below `/images`.
pub(crate) async fn route(call: Call, method: &str, path: &[&str]) -> Result {
    match (method, path) {
        ("GET", ["json"]) => list(call).await,
        ("POST", ["create"]) => create(call).await,
        ("POST", ["load"]) => load(call).await,
        ("POST", ["prune"]) => prune(call).await,
        ("GET", ["get"]) => {
            let names =
                call.query.all("names").flat_map(|names| names.split(',')).map(str::to_owned).collect();
            save(call, names).await
        }
        ("GET", ["search"]) => search(call).await,
        ("GET", [name @ .., "json"]) => inspect(call, &name.join("/")).await,
        ("GET", [name @ .., "history"]) => history(call, &name.join("/")).await,
        ("GET", [name @ .., "get"]) => save(call, vec![name.join("/")]).await,
        ("POST", [name @ .., "tag"]) => tag(call, name.join("/")).await,
        ("POST", [name @ .., "push"]) if !name.is_empty() => push(call, name.join("/")).await,
        ("DELETE", name) if !name.is_empty() => remove(call, name.join("/")).await,
        _ => Err(ApiError::page_not_found()),
    }
}

/// `GET /images/json`
async fn list(call: Call) -> Result {
    let options = ImageListOptions {
        all: call.query.flag("all"),
        filters: call.query.filters()?,
        shared_size: call.query.flag("shared-size"),
    };
    let images = call.engine.images().list(options).await?;
    if call.version.at_least(44) {
        return Ok(body::json(StatusCode::OK, &images));
    }
    let images: Vec<Value> = images.iter().map(|image| as_before(call.version, image)).collect();
    Ok(body::json(StatusCode::OK, &images))
}

/// `POST /images/create`
async fn create(call: Call) -> Result {
    let Some(image) = call.query.text("fromImage") else {
        return import(call).await;
    };
    let request = PullRequest {
        image: image.to_owned(),
        tag: call.query.text("tag").map(str::to_owned),
        platform: call.query.text("platform").map(str::to_owned),
        credentials: registry_auth::decode(call.headers.get("x-registry-auth"))?,
    };
    progress::answer(call.engine.images().pull(request).await?).await
}

/// `POST /images/create` with `fromSrc`
async fn import(call: Call) -> Result {
    let Some(source) = call.query.text("fromSrc") else {
        return Err(ApiError::invalid("one of fromImage and fromSrc must be given"));
    };
    let text = |name| call.query.get(name).unwrap_or_default().to_owned();
    let request = ImportRequest {
        source: source.to_owned(),
        repository: text("repo"),
        tag: text("tag"),
        message: text("message"),
        changes: call.query.all("changes").map(str::to_owned).collect(),
        platform: call.query.text("platform").map(str::to_owned),
    };
    let content = BodyDataStream::new(call.body).map(|data| data.map_err(io::Error::other));
    progress::answer(call.engine.images().import(request, Box::pin(content)).await?).await
}

/// `POST /images/{name}/push`
async fn push(mut call: Call, image: String) -> Result {
    call.discard_body().await?;
    let request = PushRequest {
        image,
        tag: call.query.text("tag").map(str::to_owned),
        platform: call.query.text("platform").map(str::to_owned),
        credentials: registry_auth::decode(call.headers.get("x-registry-auth"))?,
    };
    progress::answer(call.engine.images().push(request).await?).await
}

/// `GET /images/search`
async fn search(call: Call) -> Result {
    let options = SearchOptions {
        term: call.query.get("term").unwrap_or_default().to_owned(),
        limit: call.query.number("limit")?,
        filters: call.query.filters()?,
        credentials: registry_auth::decode(call.headers.get("x-registry-auth"))?,
    };
    Ok(body::json(StatusCode::OK, &call.engine.images().search(options).await?))
}

/// `POST /auth`
pub(crate) async fn log_in(mut call: Call) -> Result {
    let login = registry_auth::unpack(call.json().await?);
    Ok(body::json(StatusCode::OK, &call.engine.images().log_in(login).await?))
}

/// `GET /distribution/{name}/json`
pub(crate) async fn describe(call: Call, name: &str) -> Result {
    let login = registry_auth::decode(call.headers.get("x-registry-auth"))?;
    Ok(body::json(StatusCode::OK, &call.engine.images().describe(name, login).await?))
}

/// `POST /images/load`
async fn load(call: Call) -> Result {
    let quiet = call.query.flag("quiet");
    let platform = call.query.text("platform").map(str::to_owned);
    let archive =
        StreamReader::new(BodyDataStream::new(call.body).map(|data| data.map_err(io::Error::other)));
    progress::answer(call.engine.images().load(archive, quiet, platform.as_deref()).await?).await
}

/// `POST /images/prune`
async fn prune(call: Call) -> Result {
    let filters = call.query.filters()?;
    let pruned = whole(async move { call.engine.images().prune(filters).await }).await?;
    Ok(body::json(StatusCode::OK, &pruned))
}

/// `GET /images/get` and `GET /images/{name}/get`
async fn save(call: Call, names: Vec<String>) -> Result {
    let archive = call.engine.images().save(names, call.query.text("platform")).await?;
    Ok(body::with_type(StatusCode::OK, "application/x-tar", Body::Stream(archive)))
}

/// `GET /images/{name}/json`
async fn inspect(call: Call, name: &str) -> Result {
    let image = call.engine.images().inspect(name).await?;
    if call.version.at_least(44) {
        return Ok(body::json(StatusCode::OK, &image));
    }
    Ok(body::json(StatusCode::OK, &as_before(call.version, &image)))
}

/// An image as older clients know it: with a virtual size up to 1.43, and up to 1.42 with a name even where
/// it has none.
fn as_before<T: Serialize>(version: Version, image: &T) -> Value {
    let mut document = serde_json::to_value(image).unwrap_or_default();
    if let Some(fields) = document.as_object_mut() {
        let size = fields.get("Size").cloned().unwrap_or_default();
        fields.insert("VirtualSize".to_owned(), size);
        let untagged = fields.get("RepoTags").and_then(Value::as_array).is_some_and(Vec::is_empty);
        if untagged && !version.at_least(43) && fields.contains_key("ParentId") {
            fields.insert("RepoTags".to_owned(), json!(["<none>:<none>"]));
            let digests = fields.get("RepoDigests").and_then(Value::as_array);
            if digests.is_none_or(Vec::is_empty) {
                fields.insert("RepoDigests".to_owned(), json!(["<none>@<none>"]));
            }
        }
    }
    document
}

/// `GET /images/{name}/history`
async fn history(call: Call, name: &str) -> Result {
    Ok(body::json(StatusCode::OK, &call.engine.images().history(name).await?))
}

/// `POST /images/{name}/tag`
async fn tag(call: Call, name: String) -> Result {
    whole(async move {
        let parameter = |name| call.query.get(name).unwrap_or_default();
        call.engine.images().tag(&name, parameter("repo"), parameter("tag")).await
    })
    .await?;
    Ok(body::empty(StatusCode::CREATED))
}

/// `DELETE /images/{name}`
async fn remove(call: Call, name: String) -> Result {
    let (force, noprune) = (call.query.flag("force"), call.query.flag("noprune"));
    let removed = whole(async move { call.engine.images().remove(&name, force, noprune).await }).await?;
    Ok(body::json(StatusCode::OK, &removed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::images::ImageSummary;

    #[test]
    fn older_clients_get_the_fields_that_they_know() {
        let version = |minor| Version { major: 1, minor };
        let image = ImageSummary { size: 7, ..ImageSummary::default() };
        let document = as_before(version(43), &image);
        assert_eq!((&document["VirtualSize"], &document["RepoTags"]), (&json!(7), &json!([])));
        assert_eq!(as_before(version(42), &image)["RepoTags"], json!(["<none>:<none>"]));
        let tagged = ImageSummary { repo_tags: vec!["a:b".into()], ..image };
        assert_eq!(as_before(version(24), &tagged)["RepoTags"], json!(["a:b"]));
    }
}
