//! `docker commit`: an image of a container's files and config as they are now.

use std::collections::BTreeSet;

use super::changes::is_place;
use super::check;
use super::spec::Config;
use super::state::State;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::instructions;
use crate::time::Time;

/// `POST /commit`.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// Of which container.
    pub container: String,
    /// The image's repository; none makes a dangling image.
    pub repository: String,
    /// The image's tag.
    pub tag: String,
    /// Why.
    pub comment: String,
    /// Who.
    pub author: String,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// A config that comes before the container's own.
    pub config: Option<Config>,
}

/// Commits a container; returns the image's id.
pub(crate) async fn commit(engine: &Engine, request: CommitRequest) -> Result<String> {
    let container = engine.inner().registry.get(&request.container)?;
    let record = container.now();
    match record.state {
        State::Dead => {
            return Err(Error::conflict(format_args!(
                "You cannot commit container {} which is Dead",
                record.id
            )));
        }
        State::Removing => {
            return Err(Error::conflict(format_args!(
                "You cannot commit container {} which is being removed",
                record.id
            )));
        }
        _ => {}
    }
    let reference = reference(&request)?;
    let config = config(&record.config, &request)?;
    let frozen = request.pause
        && matches!(record.state, State::Running { .. })
        && engine.pause(&record.id).await.is_ok();
    let parent = record.image_id.parse().map_err(|_| Error::system("the image's id is damaged"))?;
    let said = |text: &String| (!text.is_empty()).then(|| text.clone());
    let (author, comment) = (said(&request.author), said(&request.comment));
    let work = {
        let (engine, container, reference, record) =
            (engine.clone(), container.clone(), reference.clone(), record.clone());
        tokio::task::spawn_blocking(move || {
            let store = &engine.inner().images;
            let failed = |error: image::ImageError| crate::images::failure(&error);
            let base = store.get(&record.image_id).map_err(failed)?;
            let mut layers = store.layers_of(&parent).map_err(failed)?;
            let lowers = super::launch::rootfs(&engine, &container, &record)?.lowers;
            let places = own_places(&container.upper(), &lowers);
            let pack = image::layer::Pack {
                admit: &|path: &[u8]| !places.contains(path),
                ..image::layer::Pack::layer()
            };
            layers.push(store.commit_tree(&container.upper(), &pack).map_err(failed)?);
            let created = Time::now().to_string();
            let mut image = image::ImageConfig::clone(&base.config);
            image.created = Some(created.clone());
            image.author = author;
            image.comment = comment;
            image.config = Some(config);
            image.history.push(image::History {
                created: Some(created),
                created_by: Some(record.command().join(" ")),
                author: image.author.clone(),
                comment: image.comment.clone(),
                empty_layer: false,
            });
            store.create_image(image, &layers, Some(parent), reference).map_err(failed)
        })
    };
    let made = work.await.map_err(Error::system);
    if frozen && let Err(error) = engine.unpause(&record.id).await {
        tracing::warn!("container {} stays paused after a commit: {error}", record.name);
    }
    let id = made??.to_string();
    let name = reference.map(|reference| reference.familiar()).unwrap_or_default();
    let attributes = vec![("comment", request.comment), ("imageID", id.clone()), ("imageRef", name)];
    container.note("commit", attributes).await;
    Ok(id)
}

fn reference(request: &CommitRequest) -> Result<Option<image::Reference>> {
    if request.repository.is_empty() {
        return Ok(None);
    }
    let text = match request.tag.as_str() {
        "" => request.repository.clone(),
        tag => format!("{}:{tag}", request.repository),
    };
    let reference: image::Reference = text.parse().map_err(Error::invalid)?;
    Ok(Some(reference.or_latest()))
}

/// The client's config and instructions over the container's own config.
fn config(own: &Config, request: &CommitRequest) -> Result<image::ContainerConfig> {
    let mut given = portable(&request.config.clone().unwrap_or_default())?;
    instructions::apply(&mut given, &request.changes)?;
    let given = serde_json::to_value(given).map_err(Error::system)?;
    let mut merged: Config = serde_json::from_value(given).map_err(Error::system)?;
    check::merge_image(&mut merged, &portable(own)?)?;
    portable(&merged)
}

/// The part of a container's config that an image has.
fn portable(config: &Config) -> Result<image::ContainerConfig> {
    let value = serde_json::to_value(config).map_err(Error::system)?;
    serde_json::from_value(value).map_err(Error::system)
}

/// The places for the engine's own mounts that the image doesn't have.
fn own_places(upper: &std::path::Path, lowers: &[std::path::PathBuf]) -> BTreeSet<Vec<u8>> {
    ["dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf"]
        .into_iter()
        .filter(|place| {
            let stat = rustix::fs::lstat(upper.join(place)).ok();
            let in_image = lowers.iter().any(|lower| rustix::fs::lstat(lower.join(place)).is_ok());
            !in_image && is_place(place.as_bytes(), stat.as_ref())
        })
        .map(|place| place.as_bytes().to_vec())
        .collect()
}
