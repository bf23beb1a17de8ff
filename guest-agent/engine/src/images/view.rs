//! Images in the spelling of the API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::containers::spec::Config;
use crate::time::Time;

/// A row of `GET /images/json`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageSummary {
    /// Id with its algorithm.
    pub id: String,
    /// The image that it was committed from.
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
    /// The image that it was committed from.
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

fn id_list(list: &Option<BTreeMap<String, serde_json::Value>>) -> Vec<String> {
    list.iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// An image's defaults in the spelling of containers.
pub(super) fn config_view(config: &image::ContainerConfig) -> Config {
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
