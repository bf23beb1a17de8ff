//! Manifests: which config and layers an image has, and which image of an index fits a platform.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::MAX_LAYERS;
use crate::{Digest, ImageError, Platform};

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// What is asked for; a registry converts nothing that it is told is welcome.
pub(crate) const ACCEPT_MANIFESTS: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";

/// What a manifest says of a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

/// One image's manifest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// What a manifest document is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde_json::Value>,
}

impl Document {
    /// Reads a manifest or index; `media_type` is what the registry called it.
    pub(crate) fn parse(raw: &[u8], media_type: Option<&str>) -> Result<Document, ImageError> {
        let raw: Raw = serde_json::from_slice(raw)
            .map_err(|error| ImageError::corrupt(format!("invalid manifest: {error}")))?;
        let named = raw.media_type.as_deref().or(media_type).unwrap_or_default();
        if raw.schema_version == Some(1)
            || raw.fs_layers.is_some()
            || named.contains("docker.distribution.manifest.v1+")
        {
            return Err(ImageError::Unsupported {
                what: "image manifest version 2, schema 1 is not supported: \
                       push the image again with a newer client, or ask its author to"
                    .to_owned(),
            });
        }
        if raw.schema_version != Some(2) {
            return Err(ImageError::corrupt("invalid manifest: schemaVersion is not 2"));
        }
        let (index, manifest) = (raw.manifests.is_some(), raw.config.is_some() || raw.layers.is_some());
        match (raw.manifests, raw.config, raw.layers) {
            // A document that is both would mean different images to different readers.
            _ if index && manifest => {
                Err(ImageError::corrupt("invalid manifest: both an index and an image"))
            }
            (Some(_), ..) if matches!(named, OCI_MANIFEST | DOCKER_MANIFEST) => {
                Err(ImageError::corrupt("invalid manifest: an index that is called an image"))
            }
            (Some(manifests), ..) => Ok(Document::Index(manifests)),
            (_, Some(_), Some(_)) if matches!(named, OCI_INDEX | DOCKER_LIST) => {
                Err(ImageError::corrupt("invalid manifest: an image that is called an index"))
            }
            (_, Some(config), Some(layers)) => Manifest { config, layers }.check().map(Document::Manifest),
            _ => Err(ImageError::corrupt("invalid manifest: neither config and layers nor manifests")),
        }
    }
}

impl Manifest {
    fn check(self) -> Result<Manifest, ImageError> {
        let unsupported = |what: String| Err(ImageError::Unsupported { what });
        let config = self.config.media_type.as_str();
        if !matches!(config, OCI_CONFIG | DOCKER_CONFIG | "" | "application/octet-stream") {
            return unsupported(format!("unsupported media type {config}: this is not a container image"));
        }
        if self.layers.len() > MAX_LAYERS {
            return Err(ImageError::corrupt(format!("image has more than {MAX_LAYERS} layers")));
        }
        for layer in &self.layers {
            let kind = layer.media_type.as_str();
            if kind.contains("foreign") || kind.contains("nondistributable") {
                return unsupported(format!(
                    "foreign layers are not supported: layer {} is of type {kind}",
                    layer.digest
                ));
            }
            let form = kind.strip_prefix(OCI_LAYER).or(kind.strip_prefix(DOCKER_LAYER));
            if !matches!(form, Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd")) {
                return unsupported(format!("unsupported media type {kind} of layer {}", layer.digest));
            }
        }
        Ok(self)
    }
}

/// The image of an index that fits `platform` best; the first of equals.
pub(crate) fn select<'a>(manifests: &'a [Descriptor], platform: &Platform) -> Option<&'a Descriptor> {
    manifests
        .iter()
        .filter(|descriptor| {
            matches!(
                descriptor.media_type.as_str(),
                OCI_MANIFEST | DOCKER_MANIFEST | OCI_INDEX | DOCKER_LIST | ""
            )
        })
        .filter_map(|descriptor| {
            let distance = match &descriptor.platform {
                Some(offered) => platform.distance(offered)?,
                // An entry that does not say is taken if nothing else fits, and checked by its config.
                None => u32::MAX,
            };
            Some((distance, descriptor))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, descriptor)| descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(platform: &str) -> serde_json::Value {
        let platform: Vec<&str> = platform.split('/').collect();
        serde_json::json!({
            "mediaType": OCI_MANIFEST, "size": 1, "digest": Digest::of(platform.concat().as_bytes()),
            "platform": {"os": platform[0], "architecture": platform[1], "variant": platform.get(2).unwrap_or(&"")},
        })
    }

    fn pick(offered: &[&str], wanted: &str) -> Option<String> {
        let manifests: Vec<_> = offered.iter().map(|platform| entry(platform)).collect();
        let raw = serde_json::json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        let Document::Index(manifests) = Document::parse(raw.as_bytes(), Some(OCI_INDEX)).unwrap() else {
            panic!()
        };
        select(&manifests, &wanted.parse().unwrap())
            .map(|found| found.platform.clone().unwrap().normalised().to_string())
    }

    #[test]
    fn the_best_fitting_image_of_an_index_is_taken() {
        let offered = [
            "unknown/unknown",
            "linux/386",
            "linux/arm/v6",
            "linux/arm64/v8",
            "linux/amd64",
            "linux/amd64/v3",
        ];
        assert_eq!(pick(&offered, "linux/amd64").unwrap(), "linux/amd64");
        assert_eq!(pick(&offered, "linux/amd64/v4").unwrap(), "linux/amd64/v3");
        assert_eq!(pick(&offered, "linux/arm/v7").unwrap(), "linux/arm/v6");
        assert_eq!(pick(&offered, "linux/arm64").unwrap(), "linux/arm64");
        assert_eq!(pick(&offered, "linux/s390x"), None);
    }

    #[test]
    fn schema_1_and_foreign_layers_are_refused_by_name() {
        let error = Document::parse(br#"{"schemaVersion":1,"fsLayers":[]}"#, None).unwrap_err();
        assert!(error.to_string().contains("schema 1 is not supported"));
        let digest = Digest::of(b"");
        let raw = serde_json::json!({"schemaVersion": 2,
            "config": {"mediaType": DOCKER_CONFIG, "size": 1, "digest": digest},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "size": 1, "digest": digest}]});
        let error = Document::parse(raw.to_string().as_bytes(), None).unwrap_err();
        assert!(error.to_string().starts_with("foreign layers are not supported"), "{error}");
    }

    #[test]
    fn a_document_that_is_index_and_image_at_once_is_refused() {
        let digest = Digest::of(b"");
        let raw = serde_json::json!({"schemaVersion": 2, "manifests": [], "layers": [],
            "config": {"mediaType": DOCKER_CONFIG, "size": 1, "digest": digest}});
        assert!(Document::parse(raw.to_string().as_bytes(), None).is_err());
    }
}
