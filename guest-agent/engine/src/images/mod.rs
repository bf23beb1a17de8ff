//! Images as clients see them. The store does the work; here are the events, and the rule that an image in
//! use stays.

mod archives;
mod import;
mod list;
mod prune;
mod pull;
mod push;
mod registries;
mod view;

use std::collections::BTreeMap;

use futures_util::StreamExt;

pub use import::ImportRequest;
pub use list::ImageListOptions;
pub use pull::PullRequest;
pub use push::PushRequest;
pub use registries::{Credentials, Described, Descriptor, LoggedIn, SearchOptions};
pub use view::{HistoryItem, ImageInspect, ImageMetadata, ImageSummary, ImagesPruned, Removed, RootFs};

use crate::containers::request::BoxStream;
use crate::error::{Error, Result};
use crate::time::Time;
use view::config_view;

/// News of a pull, load or build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A sentence, perhaps about one layer.
    Status {
        /// Layer's short id, or the tag.
        id: Option<String>,
        /// The sentence.
        status: String,
    },
    /// How far a layer is.
    Layer {
        /// Its short id.
        id: String,
        /// `Downloading`, `Extracting`, ….
        status: String,
        /// Bytes done.
        current: u64,
        /// Bytes in all, 0 when unknown.
        total: u64,
    },
    /// Text as it is.
    Stream(String),
    /// A document for programs.
    Aux(serde_json::Value),
    /// It failed; the last one.
    Failed(Error),
}

/// The images' half of the engine; see [`crate::Engine::images`].
#[derive(Clone)]
pub struct Images {
    pub(crate) engine: crate::Engine,
}

/// A failure of the store in the engine's terms.
pub(crate) fn failure(error: &image::ImageError) -> Error {
    use image::ErrorKind as K;
    let message = error.sentence();
    match error.kind() {
        K::NotFound => Error::not_found(message),
        K::Unauthorized => Error::unauthorized(message),
        K::InvalidParameter => Error::invalid(message),
        K::Conflict => Error::conflict(message),
        K::Unavailable => Error::unavailable(message),
        K::NotImplemented => Error::not_implemented(message),
        K::Corrupt | K::System => Error::system(message),
    }
}

fn seconds(created: Option<&str>) -> i64 {
    created.and_then(Time::parse).map_or(0, Time::unix)
}

/// Shows what `render` makes of each event; a failure before any other event is the call's own error.
async fn shown<E: Send + 'static>(
    mut events: tokio::sync::mpsc::Receiver<E>,
    error: impl Fn(&E) -> Option<Error>,
    mut render: impl FnMut(E) -> Option<Progress> + Send + 'static,
) -> Result<BoxStream<Progress>> {
    let first = events.recv().await.ok_or_else(|| Error::system("the work broke off"))?;
    if let Some(error) = error(&first) {
        return Err(error);
    }
    let rest = tokio_stream::wrappers::ReceiverStream::new(events);
    let all = futures_util::stream::iter([first]).chain(rest);
    Ok(Box::pin(all.filter_map(move |event| futures_util::future::ready(render(event)))))
}

fn parse_platform(text: Option<&str>) -> Result<Option<image::Platform>> {
    let text = text.filter(|text| !text.is_empty());
    text.map(str::parse).transpose().map_err(Error::invalid)
}

/// A platform as newer parts of the API spell it: `{"os": "linux", "architecture": "arm64"}`.
fn platform_document(text: Option<&str>) -> Result<Option<image::Platform>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let platform: image::Platform = serde_json::from_str(text)
        .map_err(|error| Error::invalid(format_args!("failed to parse platform: {error}")))?;
    if platform.os.is_empty() || platform.architecture.is_empty() {
        return Err(Error::invalid("both OS and Architecture must be provided"));
    }
    Ok(Some(platform))
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Images {
    fn store(&self) -> &image::Store {
        &self.engine.inner().images
    }

    fn event(&self, action: &str, id: &str, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        let actor = crate::events::Actor { id: id.to_owned(), attributes };
        self.engine.inner().events.publish("image", action, actor);
    }

    fn get(&self, name: &str) -> Result<std::sync::Arc<image::Image>> {
        self.store().get(name).map_err(|error| failure(&error))
    }

    /// One image.
    pub async fn inspect(&self, name: &str) -> Result<ImageInspect> {
        let image = self.get(name)?;
        let config = &*image.config;
        let lowers = self.store().lower_dirs(&image.id).map_err(|error| failure(&error))?;
        let mut data = BTreeMap::new();
        let text = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
        if let Some((upper, lower)) = lowers.split_first() {
            data.insert("UpperDir".to_owned(), text(upper));
            if !lower.is_empty() {
                data.insert("LowerDir".to_owned(), lower.iter().map(text).collect::<Vec<_>>().join(":"));
            }
        }
        Ok(ImageInspect {
            id: image.id.to_string(),
            repo_tags: image.repo_tags.clone(),
            repo_digests: image.repo_digests.clone(),
            parent: image.parent.map(|parent| parent.to_string()).unwrap_or_default(),
            comment: config.comment.clone().unwrap_or_default(),
            created: image.created.clone().unwrap_or_default(),
            docker_version: config.docker_version.clone().unwrap_or_default(),
            author: config.author.clone().unwrap_or_default(),
            config: Some(config.config.as_ref().map(config_view).unwrap_or_default()),
            architecture: image.platform.architecture.clone(),
            variant: image.platform.variant.clone().unwrap_or_default(),
            os: image.platform.os.clone(),
            size: size(image.size),
            graph_driver: Some(crate::containers::view::GraphDriver {
                data,
                name: crate::system::STORAGE_DRIVER,
            }),
            root_fs: RootFs {
                r#type: "layers".into(),
                layers: config.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
            },
            metadata: ImageMetadata { last_tag_time: Time::from(image.last_tagged) },
        })
    }

    /// Its history, newest first.
    pub async fn history(&self, name: &str) -> Result<Vec<HistoryItem>> {
        let steps = self.get(name)?.history();
        Ok(steps
            .into_iter()
            .map(|step| HistoryItem {
                id: step.image.map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
                created: seconds(step.created.as_deref()),
                created_by: step.created_by,
                tags: (!step.tags.is_empty()).then_some(step.tags),
                size: size(step.size),
                comment: step.comment,
            })
            .collect())
    }

    /// Gives it one more name.
    pub async fn tag(&self, name: &str, repository: &str, tag: &str) -> Result<()> {
        let text = if tag.is_empty() { repository.to_owned() } else { format!("{repository}:{tag}") };
        let target: image::Reference = text.parse().map_err(Error::invalid)?;
        let (store, source) = (self.store().clone(), name.to_owned());
        let (id, target) =
            tokio::task::spawn_blocking(move || store.tag(&source, &target).map(|id| (id, target)))
                .await
                .map_err(Error::system)?
                .map_err(|error| failure(&error))?;
        self.event("tag", &id.to_string(), &target.or_latest().familiar());
        Ok(())
    }

    /// Takes a name off, and the image with its last one.
    pub async fn remove(&self, name: &str, force: bool, noprune: bool) -> Result<Vec<Removed>> {
        let (images, name) = (self.clone(), name.to_owned());
        let id = self.get(&name)?.id.to_string();
        let removed = tokio::task::spawn_blocking(move || {
            let users = images.users();
            images.store().remove(&name, force, noprune, &|id| users(id))
        });
        let removed = removed.await.map_err(Error::system)?.map_err(|error| failure(&error))?;
        Ok(self.tell_removed(&id, removed))
    }

    fn tell_removed(&self, id: &str, removed: Vec<image::Removed>) -> Vec<Removed> {
        removed
            .into_iter()
            .map(|removed| match removed {
                image::Removed::Untagged(name) => {
                    self.event("untag", id, &name);
                    Removed::Untagged(name)
                }
                image::Removed::Deleted(digest) => {
                    // Layers go with their images and have no events of their own.
                    if digest == id {
                        self.event("delete", &digest, &digest);
                    }
                    Removed::Deleted(digest)
                }
            })
            .collect()
    }

    /// Which containers use an image.
    fn users(&self) -> impl Fn(&image::ImageId) -> image::InUse + use<> {
        let containers = self.engine.inner().registry.all();
        move |id| {
            let id = id.to_string();
            let mut found = image::InUse::No;
            for container in &containers {
                let record = container.now();
                if record.image_id != id {
                    continue;
                }
                if record.state.lives() {
                    return image::InUse::Running { container: record.id.clone() };
                }
                found = image::InUse::Stopped { container: record.id.clone() };
            }
            found
        }
    }
}
