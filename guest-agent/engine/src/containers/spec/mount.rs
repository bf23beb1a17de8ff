//! Mounts in the long form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{record, zero};

record! {
    /// A mount in the long form (`--mount`).
    pub struct Mount {
        /// `bind`, `volume`, `tmpfs`, `image`, `npipe`, `cluster`.
        pub r#type: String,
        /// Host path, volume name or image.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub source: String,
        /// Path in the container.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub target: String,
        /// Read-only.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub read_only: bool,
        /// A hint for other platforms; accepted, without effect.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub consistency: String,
        /// For `bind`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bind_options: Option<BindOptions>,
        /// For `volume`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub volume_options: Option<VolumeOptions>,
        /// For `tmpfs`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tmpfs_options: Option<TmpfsOptions>,
        /// For `image`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_options: Option<ImageOptions>,
    }
}

record! {
    /// Options of a bind mount.
    pub struct BindOptions {
        /// `rprivate`, `private`, `rshared`, `shared`, `rslave`, `slave`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub propagation: String,
        /// Without the mounts below it.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub non_recursive: bool,
        /// Make a missing source.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub create_mountpoint: bool,
        /// Read-only for this mount, not for those below it.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub read_only_non_recursive: bool,
        /// Fail unless those below can be made read-only too.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub read_only_force_recursive: bool,
    }
}

record! {
    /// Options of a volume mount.
    pub struct VolumeOptions {
        /// Without copy-up.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub no_copy: bool,
        /// Labels of a volume made here.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub labels: BTreeMap<String, String>,
        /// Driver of a volume made here.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub driver_config: Option<DriverConfig>,
        /// A path within the volume.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub subpath: String,
    }
}

record! {
    /// A volume driver and its options.
    pub struct DriverConfig {
        /// Its name.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String,
        /// Its options.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub options: BTreeMap<String, String>,
    }
}

record! {
    /// Options of a tmpfs mount.
    pub struct TmpfsOptions {
        /// Bytes; 0 is unlimited.
        #[serde(skip_serializing_if = "zero")]
        pub size_bytes: i64,
        /// Mode bits, decimal in JSON.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub mode: Option<u32>,
        /// More options, each one or two words.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub options: Option<Vec<Vec<String>>>,
    }
}

record! {
    /// Options of an image mount.
    pub struct ImageOptions {
        /// A path within the image.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub subpath: String,
    }
}
