//! Images as clients see them. The store does the work; here are the events, and the rule that an image in
//! use stays.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::containers::request::BoxStream;
use crate::containers::spec::{Config, record};
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::time::Time;

record! {
    /// The content of `X-Registry-Auth`.
    pub struct Credentials {
        /// User.
        #[serde(rename = "username")]
        pub username: String,
        /// Password.
        #[serde(rename = "password")]
        pub password: String,
        /// `base64(user:password)`, when the two are not given.
        #[serde(rename = "auth")]
        pub auth: String,
        /// Which registry.
        #[serde(rename = "serveraddress")]
        pub server_address: String,
        /// A refresh token.
        #[serde(rename = "identitytoken")]
        pub identity_token: String,
        /// A bearer token.
        #[serde(rename = "registrytoken")]
        pub registry_token: String,
    }
}

/// `POST /images/create?fromImage=…`.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// The repository, perhaps with tag or digest.
    pub image: String,
    /// Tag or digest, when it stands apart.
    pub tag: Option<String>,
    /// `os[/arch[/variant]]`.
    pub platform: Option<String>,
    /// Credentials.
    pub credentials: Option<Credentials>,
}

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
    /// It failed; the last one.
    Failed(Error),
}

/// A row of `GET /images/json`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageSummary {
    /// Id with its algorithm.
    pub id: String,
    /// Parent; empty.
    pub parent_id: String,
    /// `repository:tag`.
    pub repo_tags: Vec<String>,
    /// `repository@digest`.
    pub repo_digests: Vec<String>,
    /// Seconds since 1970.
    pub created: i64,
    /// Bytes.
    pub size: i64,
    /// Bytes shared with others; -1 when not asked for.
    pub shared_size: i64,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Containers that use it; -1 when not counted.
    pub containers: i64,
}

/// The body of `GET /images/{name}/json`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageInspect {
    /// Id with its algorithm.
    pub id: String,
    /// `repository:tag`.
    pub repo_tags: Vec<String>,
    /// `repository@digest`.
    pub repo_digests: Vec<String>,
    /// Parent; empty.
    pub parent: String,
    /// Comment.
    pub comment: String,
    /// When it was made.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// Engine that built it; empty.
    pub docker_version: String,
    /// Author.
    pub author: String,
    /// Its configuration for containers.
    pub config: Option<Config>,
    /// Machine.
    pub architecture: String,
    /// Its variant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// `linux`.
    pub os: String,
    /// Bytes.
    pub size: i64,
    /// Where the layers are.
    pub graph_driver: Option<crate::containers::view::GraphDriver>,
    /// The layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// More.
    pub metadata: ImageMetadata,
}

/// The layers of an image.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootFs {
    /// `layers`.
    pub r#type: String,
    /// Digests of the layers, lowest first.
    pub layers: Vec<String>,
}

/// What the engine knows beside the image.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageMetadata {
    /// When it was last tagged.
    pub last_tag_time: Time,
}

/// A row of `GET /images/{name}/history`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HistoryItem {
    /// The image's id on the first row, `<missing>` below.
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    /// The instruction.
    pub created_by: String,
    /// Tags of the image on the first row.
    pub tags: Option<Vec<String>>,
    /// Bytes of the layer.
    pub size: i64,
    /// Comment.
    pub comment: String,
}

/// A row of the answer to `DELETE /images/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removed {
    /// A name was taken off.
    Untagged(String),
    /// Content is gone.
    Deleted(String),
}

/// The answer to `POST /images/prune`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImagesPruned {
    /// What went.
    pub images_deleted: Option<Vec<Removed>>,
    /// Bytes given back.
    pub space_reclaimed: u64,
}

/// `GET /images/json`.
#[derive(Debug, Clone, Default)]
pub struct ImageListOptions {
    /// Intermediate images, too; there are none.
    pub all: bool,
    /// Filters.
    pub filters: Filters,
    /// Count what is shared.
    pub shared_size: bool,
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

fn id_list(list: &Option<BTreeMap<String, serde_json::Value>>) -> Vec<String> {
    list.iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// An image's defaults in the spelling of containers.
fn config_view(config: &image::ContainerConfig) -> Config {
    use crate::containers::spec::{Empty, Healthcheck, Words};
    let words = |list: &Option<Vec<String>>| list.clone().map(Words);
    Config {
        user: config.user.clone().unwrap_or_default(),
        exposed_ports: id_list(&config.exposed_ports).into_iter().map(|port| (port, Empty {})).collect(),
        env: config.env.clone(),
        cmd: words(&config.cmd),
        entrypoint: words(&config.entrypoint),
        volumes: config
            .volumes
            .as_ref()
            .map(|_| id_list(&config.volumes).into_iter().map(|path| (path, Empty {})).collect()),
        working_dir: config.working_dir.clone().unwrap_or_default(),
        labels: config.labels.clone().unwrap_or_default(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        stop_timeout: config.stop_timeout,
        shell: words(&config.shell),
        on_build: config.on_build.clone(),
        args_escaped: config.args_escaped.unwrap_or(false),
        healthcheck: config.healthcheck.as_ref().map(|health| Healthcheck {
            test: words(&health.test),
            interval: health.interval.unwrap_or(0),
            timeout: health.timeout.unwrap_or(0),
            start_period: health.start_period.unwrap_or(0),
            start_interval: health.start_interval.unwrap_or(0),
            retries: health.retries.unwrap_or(0),
        }),
        ..Config::default()
    }
}

fn seconds(created: Option<&str>) -> i64 {
    created.and_then(Time::parse).map_or(0, Time::unix)
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

const ACCEPTED: [&str; 8] =
    ["dangling", "label", "label!", "before", "since", "reference", "until", "is-manifest-list"];

impl Images {
    fn store(&self) -> &image::Store {
        &self.engine.inner().images
    }

    fn event(&self, action: &str, id: &str, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        let actor = crate::events::Actor { id: id.to_owned(), attributes };
        self.engine.inner().events.publish("image", action, actor);
    }

    /// Pulls; a failure before any progress is the call's own error.
    pub async fn pull(&self, request: PullRequest) -> Result<BoxStream<Progress>> {
        let text = match request.tag.as_deref().filter(|tag| !tag.is_empty()) {
            Some(digest) if digest.contains(':') => format!("{}@{digest}", request.image),
            Some(tag) => format!("{}:{tag}", request.image),
            None => request.image.clone(),
        };
        let reference: image::Reference = text.parse().map_err(Error::invalid)?;
        let platform = request.platform.as_deref().filter(|text| !text.is_empty());
        let platform = platform.map(str::parse).transpose().map_err(Error::invalid)?;
        let auth = request.credentials.map(credentials);
        let registries = self.engine.inner().registries.clone();
        let name = reference.familiar();
        let mut events = self.store().pull(image::PullRequest { reference, platform, auth, registries });
        let images = self.clone();
        let first = events.recv().await.ok_or_else(|| Error::system("the pull broke off"))?;
        if let image::PullEvent::Error(error) = &first {
            return Err(failure(error));
        }
        let rest = tokio_stream::wrappers::ReceiverStream::new(events);
        let all = futures_util::StreamExt::chain(futures_util::stream::iter([first]), rest);
        Ok(Box::pin(futures_util::StreamExt::filter_map(all, move |event| {
            let shown = match event {
                image::PullEvent::Status { id, status } => Some(Progress::Status { id, status }),
                image::PullEvent::Layer { id, stage } => Some(match stage.progress() {
                    Some(progress) => Progress::Layer {
                        id,
                        status: stage.label().to_owned(),
                        current: progress.current,
                        total: progress.total,
                    },
                    None => Progress::Status { id: Some(id), status: stage.label().to_owned() },
                }),
                image::PullEvent::Done(_) => {
                    images.event("pull", &name, &name);
                    None
                }
                image::PullEvent::Error(error) => Some(Progress::Failed(failure(&error))),
            };
            futures_util::future::ready(shown)
        })))
    }

    /// Loads a docker archive or OCI layout.
    pub async fn load(
        &self,
        archive: impl tokio::io::AsyncRead + Send + Unpin + 'static,
        quiet: bool,
    ) -> Result<BoxStream<Progress>> {
        let events = tokio_stream::wrappers::ReceiverStream::new(self.store().load(archive));
        let images = self.clone();
        Ok(Box::pin(futures_util::StreamExt::filter_map(events, move |event| {
            let shown = match &event {
                image::LoadEvent::Layer { .. } if quiet => None,
                image::LoadEvent::Layer { id, progress } => Some(Progress::Layer {
                    id: id.clone(),
                    status: "Loading layer".to_owned(),
                    current: progress.current,
                    total: progress.total,
                }),
                image::LoadEvent::Loaded { image, reference } => {
                    let name =
                        reference.as_ref().map_or_else(|| image.to_string(), image::Reference::familiar);
                    images.event("load", &image.to_string(), &name);
                    event.line().map(Progress::Stream)
                }
                image::LoadEvent::Done => None,
                image::LoadEvent::Error(error) => Some(Progress::Failed(failure(error))),
            };
            futures_util::future::ready(shown)
        })))
    }

    /// Writes images as a docker archive.
    pub async fn save(&self, names: Vec<String>) -> Result<BoxStream<std::io::Result<bytes::Bytes>>> {
        let content = self.store().save(&names).map_err(|error| failure(&error))?;
        for name in &names {
            if let Ok(image) = self.store().get(name) {
                self.event("save", &image.id.to_string(), name);
            }
        }
        Ok(Box::pin(tokio_stream::wrappers::ReceiverStream::new(content)))
    }

    /// The list.
    pub async fn list(&self, options: ImageListOptions) -> Result<Vec<ImageSummary>> {
        let filters = &options.filters;
        filters.accept(&ACCEPTED)?;
        let dangling = filters.flag("dangling")?;
        let created = |name: &str| -> Result<Option<i64>> {
            let image = filters.values(name).first().map(|name| self.store().get(name)).transpose();
            Ok(image.map_err(|error| failure(&error))?.map(|image| image.created_seconds()))
        };
        let (before, since) = (created("before")?, created("since")?);
        let containers = self.engine.inner().registry.all();
        let used = |id: &str| containers.iter().filter(|container| container.now().image_id == id).count();
        let fits = |image: &image::Image| {
            let labels =
                image.config.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
            dangling.is_none_or(|wanted| wanted == image.is_dangling())
                && filters.labels(&labels)
                && before.is_none_or(|time| image.created_seconds() < time)
                && since.is_none_or(|time| image.created_seconds() > time)
                && filters.any("until", |text| {
                    Time::parse_query(text).is_some_and(|time| image.created_seconds() < time.unix())
                })
                && filters.any("reference", |pattern| {
                    image.repo_tags.iter().any(|tag| reference_fits(pattern, tag))
                })
        };
        let images = self.store().list();
        Ok(images
            .iter()
            .filter(|image| fits(image))
            .map(|image| {
                let id = image.id.to_string();
                ImageSummary {
                    containers: if options.shared_size { size(used(&id) as u64) } else { -1 },
                    id,
                    parent_id: image.parent.map(|parent| parent.to_string()).unwrap_or_default(),
                    // Of an image's names only those are listed that were asked for.
                    repo_tags: image
                        .repo_tags
                        .iter()
                        .filter(|tag| filters.any("reference", |pattern| reference_fits(pattern, tag)))
                        .cloned()
                        .collect(),
                    repo_digests: image.repo_digests.clone(),
                    created: image.created_seconds(),
                    size: size(image.size),
                    shared_size: if options.shared_size { shared(image, &images) } else { -1 },
                    labels: image.config.config.as_ref().and_then(|config| config.labels.clone()),
                }
            })
            .collect())
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

    /// Removes images that no container uses.
    pub async fn prune(&self, filters: Filters) -> Result<ImagesPruned> {
        filters.accept(&["dangling", "label", "label!", "until"])?;
        let dangling = filters.flag("dangling")?.unwrap_or(true);
        let images = self.clone();
        let pruned = tokio::task::spawn_blocking(move || {
            let users = images.users();
            let admit = |image: &image::Image| {
                let labels =
                    image.config.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
                filters.labels(&labels)
                    && filters.any("until", |text| {
                        Time::parse_query(text).is_some_and(|time| image.created_seconds() < time.unix())
                    })
            };
            images.store().prune(dangling, &admit, &|id| users(id))
        });
        let pruned = pruned.await.map_err(Error::system)?.map_err(|error| failure(&error))?;
        let removed = self.tell_removed("", pruned.removed);
        let attributes = BTreeMap::from([("reclaimed".to_owned(), pruned.space_reclaimed.to_string())]);
        let actor = crate::events::Actor { id: String::new(), attributes };
        self.engine.inner().events.publish("image", "prune", actor);
        Ok(ImagesPruned {
            images_deleted: (!removed.is_empty()).then_some(removed),
            space_reclaimed: pruned.space_reclaimed,
        })
    }
}

fn credentials(own: Credentials) -> image::Credentials {
    let some = |text: String| (!text.is_empty()).then_some(text);
    image::Credentials {
        username: own.username,
        password: own.password,
        identity_token: some(own.identity_token),
        registry_token: some(own.registry_token),
    }
}

/// Bytes of the layers that another image has too.
fn shared(image: &image::Image, images: &[std::sync::Arc<image::Image>]) -> i64 {
    let elsewhere = |layer: &image::LayerInfo| {
        images
            .iter()
            .filter(|other| other.id != image.id)
            .any(|other| other.layers.iter().any(|own| own.diff_id == layer.diff_id))
    };
    image.layers.iter().filter(|layer| elsewhere(layer)).map(|layer| size(layer.size)).sum()
}

/// Whether `repository:tag` fits a pattern with `*`; a pattern without a tag fits every tag.
fn reference_fits(pattern: &str, tag: &str) -> bool {
    let whole = pattern.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let subject = if whole { tag } else { tag.rsplit_once(':').map_or(tag, |(repository, _)| repository) };
    glob(pattern.as_bytes(), subject.as_bytes())
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        // A star doesn't cross a slash, as in paths.
        Some((b'*', rest)) => {
            glob(rest, text) || text.first().is_some_and(|byte| *byte != b'/') && glob(pattern, &text[1..])
        }
        Some((b'?', rest)) => text.first().is_some_and(|byte| *byte != b'/') && glob(rest, &text[1..]),
        Some((byte, rest)) => text.first() == Some(byte) && glob(rest, &text[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_pattern_fits_with_or_without_tag() {
        assert!(reference_fits("busybox", "busybox:latest"));
        assert!(reference_fits("busybox:la*", "busybox:latest"));
        assert!(reference_fits("localhost:5000/*", "localhost:5000/busybox:1"));
        assert!(!reference_fits("busybox:1", "busybox:latest"));
        assert!(!reference_fits("busy", "busybox:latest"));
        assert!(!reference_fits("*", "team/busybox:1"));
    }
}
