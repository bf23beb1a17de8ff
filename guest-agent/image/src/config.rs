//! Image configs: what an image says about how it is run, and which layers it consists of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, ImageError, Platform};

/// More layers than any overlay mount takes.
pub(crate) const MAX_LAYERS: usize = 500;

/// An image's config, in the OCI's and docker's common spelling. Unknown members are kept only in the raw bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v7`, `v8`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The engine that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    /// The comment given at commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// How its containers run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ContainerConfig>,
    /// Its layers.
    pub rootfs: RootFs,
    /// How it came about, oldest first.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// The layers of an image, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> RootFs {
        RootFs { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// The defaults that an image gives its containers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// `user`, `user:group`, `uid:gid`.
    pub user: Option<String>,
    /// `80/tcp` → `{}`.
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// What runs before `cmd`.
    pub entrypoint: Option<Vec<String>>,
    /// The default command or arguments.
    pub cmd: Option<Vec<String>>,
    /// Paths that get anonymous volumes.
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    /// Where the command starts.
    pub working_dir: Option<String>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// `SIGTERM`, or its number.
    pub stop_signal: Option<String>,
    /// Seconds.
    pub stop_timeout: Option<i64>,
    /// Docker's health check.
    pub healthcheck: Option<HealthConfig>,
    /// The shell of shell-form commands.
    pub shell: Option<Vec<String>>,
    /// Dockerfile instructions that run when another image builds on this one.
    pub on_build: Option<Vec<String>>,
    /// Windows only, carried along.
    pub args_escaped: Option<bool>,
}

/// A health check; durations are nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    /// `["CMD", …]`, `["CMD-SHELL", …]` or `["NONE"]`.
    pub test: Option<Vec<String>>,
    /// Time between checks.
    pub interval: Option<i64>,
    /// Time that one check may take.
    pub timeout: Option<i64>,
    /// Grace at the beginning.
    pub start_period: Option<i64>,
    /// Time between checks during the grace.
    pub start_interval: Option<i64>,
    /// Failures that make it unhealthy.
    pub retries: Option<i64>,
}

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The step made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl ImageConfig {
    /// Reads a config blob.
    pub fn parse(raw: &[u8]) -> Result<ImageConfig, ImageError> {
        // Serde would take an empty list for a config that says nothing.
        if raw.trim_ascii_start().first() != Some(&b'{') {
            return Err(ImageError::corrupt("invalid image config: not a JSON object"));
        }
        let config: ImageConfig = serde_json::from_slice(raw)
            .map_err(|error| ImageError::corrupt(format!("invalid image config: {error}")))?;
        if config.rootfs.kind != "layers" {
            return Err(ImageError::corrupt(format!("unsupported rootfs type `{}`", config.rootfs.kind)));
        }
        if config.rootfs.diff_ids.len() > MAX_LAYERS {
            return Err(ImageError::corrupt(format!("image has more than {MAX_LAYERS} layers")));
        }
        Ok(config)
    }

    /// The platform that the image is for.
    pub fn platform(&self) -> Platform {
        let or_host = |value: &str, host: String| if value.is_empty() { host } else { value.to_owned() };
        let host = Platform::host();
        Platform {
            os: or_host(&self.os, host.os),
            architecture: or_host(&self.architecture, host.architecture),
            variant: self.variant.clone().filter(|variant| !variant.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_encoders_nulls_are_read_as_nothing() {
        let raw = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"Volumes":null},
            "rootfs":{"type":"layers","diff_ids":null},"history":null,"unknown":{"x":1}}"#;
        let config = ImageConfig::parse(raw).unwrap();
        assert_eq!(config.config.unwrap().cmd.unwrap(), ["sh"]);
        assert!(config.rootfs.diff_ids.is_empty() && config.history.is_empty());
    }

    #[test]
    fn a_config_that_is_no_config_is_refused() {
        assert!(ImageConfig::parse(b"[]").is_err());
        assert!(ImageConfig::parse(br#"{"rootfs":{"type":"other","diff_ids":[]}}"#).is_err());
        assert!(ImageConfig::parse(br#"{"rootfs":{"type":"layers","diff_ids":["sha256:zz"]}}"#).is_err());
    }
}
