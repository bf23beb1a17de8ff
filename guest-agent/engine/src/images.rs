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

impl Images {
    /// Pulls; the first failure before any progress is the call's own error.
    pub async fn pull(&self, request: PullRequest) -> Result<BoxStream<Progress>> {
        Err(Error::not_implemented(format_args!("cannot pull {}", request.image)))
    }

    /// Loads a docker archive or OCI layout.
    pub async fn load(
        &self,
        archive: impl tokio::io::AsyncRead + Send + Unpin + 'static,
        quiet: bool,
    ) -> Result<BoxStream<Progress>> {
        drop((archive, quiet));
        Err(Error::not_implemented("cannot load"))
    }

    /// Writes images as a docker archive.
    pub async fn save(&self, names: Vec<String>) -> Result<BoxStream<std::io::Result<bytes::Bytes>>> {
        Err(Error::not_implemented(format_args!("cannot save {names:?}")))
    }

    /// The list.
    pub async fn list(&self, options: ImageListOptions) -> Result<Vec<ImageSummary>> {
        drop(options);
        Ok(Vec::new())
    }

    /// One image.
    pub async fn inspect(&self, name: &str) -> Result<ImageInspect> {
        Err(Error::not_found(format_args!("No such image: {name}")))
    }

    /// Its history, newest first.
    pub async fn history(&self, name: &str) -> Result<Vec<HistoryItem>> {
        Err(Error::not_found(format_args!("No such image: {name}")))
    }

    /// Gives it one more name.
    pub async fn tag(&self, name: &str, repository: &str, tag: &str) -> Result<()> {
        let _ = (repository, tag);
        Err(Error::not_found(format_args!("No such image: {name}")))
    }

    /// Takes a name off, and the image with its last one.
    pub async fn remove(&self, name: &str, force: bool, noprune: bool) -> Result<Vec<Removed>> {
        let _ = (force, noprune);
        Err(Error::not_found(format_args!("No such image: {name}")))
    }

    /// Removes images that no container uses.
    pub async fn prune(&self, filters: Filters) -> Result<ImagesPruned> {
        drop(filters);
        Ok(ImagesPruned::default())
    }
}
