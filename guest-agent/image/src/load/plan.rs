//! Which images an archive's documents describe. Pure: names and digests in, images out.

use std::collections::HashMap;

use serde::Deserialize;

use crate::config::ImageConfig;
use crate::manifest::{Document, Manifest};
use crate::{Digest, ImageError, ImageId, Platform, Reference};

/// An index may name indexes; nobody nests them deeper.
const MAX_DEPTH: usize = 3;

/// One image of an archive.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) id: ImageId,
    pub(super) config: ImageConfig,
    pub(super) raw_config: Vec<u8>,
    pub(super) manifest: Option<Vec<u8>>,
    pub(super) references: Vec<Reference>,
    pub(super) layers: Vec<Digest>,
}

/// An element of docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

struct Files<'a> {
    documents: &'a HashMap<String, Vec<u8>>,
    layers: &'a HashMap<String, Digest>,
    links: &'a HashMap<String, String>,
}

/// The images of docker's list if there is one, else those of the OCI layout's index.
pub(super) fn images(
    documents: &HashMap<String, Vec<u8>>,
    layers: &HashMap<String, Digest>,
    links: &HashMap<String, String>,
) -> Result<Vec<Planned>, ImageError> {
    let files = Files { documents, layers, links };
    if let Some(list) = documents.get("manifest.json") {
        let list: Vec<DockerImage> =
            serde_json::from_slice(list).map_err(|error| invalid(format!("manifest.json: {error}")))?;
        return list.into_iter().map(|image| files.docker_image(image)).collect();
    }
    let Some(index) = documents.get("index.json") else {
        return Err(invalid("neither manifest.json nor index.json is there".to_owned()));
    };
    let mut images = Vec::new();
    files.walk(index, None, 0, &mut images)?;
    if images.is_empty() {
        return Err(invalid("it holds no image".to_owned()));
    }
    Ok(images)
}

fn invalid(what: String) -> ImageError {
    ImageError::Archive { what }
}

/// Those of the images that are for the platform, if one was asked for.
pub(super) fn for_platform(
    mut images: Vec<Planned>,
    platform: Option<&Platform>,
) -> Result<Vec<Planned>, ImageError> {
    let Some(wanted) = platform else { return Ok(images) };
    images.retain(|image| wanted.distance(&image.config.platform()).is_some());
    if images.is_empty() {
        let message = format!("requested platform ({wanted}) not found in the image archive");
        return Err(ImageError::PlatformNotFound { message });
    }
    Ok(images)
}

impl Files<'_> {
    fn docker_image(&self, image: DockerImage) -> Result<Planned, ImageError> {
        let raw = self.document(&image.config)?;
        let config = ImageConfig::parse(raw)?;
        let layers = image.layers.unwrap_or_default();
        if layers.len() != config.rootfs.diff_ids.len() {
            let (listed, known) = (layers.len(), config.rootfs.diff_ids.len());
            return Err(invalid(format!("{listed} layers are listed for a config with {known}")));
        }
        for (path, expected) in layers.iter().zip(&config.rootfs.diff_ids) {
            // An archive may leave out a layer that the store has.
            if let Some(actual) = self.layer(path)
                && actual != *expected
            {
                return Err(ImageError::DigestMismatch { what: "layer", expected: *expected, actual });
            }
        }
        let references = image.repo_tags.unwrap_or_default();
        let references = references.iter().map(|tag| Ok(tag.parse::<Reference>()?.or_latest()));
        Ok(Planned {
            id: ImageId(Digest::of(raw)),
            raw_config: raw.to_vec(),
            layers: config.rootfs.diff_ids.clone(),
            config,
            manifest: None,
            references: references.collect::<Result<_, ImageError>>()?,
        })
    }

    fn walk(
        &self,
        raw: &[u8],
        name: Option<&str>,
        depth: usize,
        images: &mut Vec<Planned>,
    ) -> Result<(), ImageError> {
        match Document::parse(raw, None)? {
            Document::Manifest(manifest) => images.push(self.oci_image(raw, &manifest, name)?),
            Document::Index(_) if depth > MAX_DEPTH => {
                return Err(invalid(format!("indexes are nested more than {MAX_DEPTH} deep")));
            }
            Document::Index(descriptors) => {
                for descriptor in &descriptors {
                    let annotation =
                        |key: &str| descriptor.annotations.as_ref()?.get(key).map(String::as_str);
                    if annotation("vnd.docker.reference.type").is_some() {
                        continue;
                    }
                    let own = annotation("io.containerd.image.name");
                    let own = own.or_else(|| annotation("org.opencontainers.image.ref.name"));
                    // An archive may hold some of an index's platforms only.
                    let Ok(next) = self.blob(&descriptor.digest) else { continue };
                    self.walk(next, own.or(name), depth + 1, images)?;
                }
            }
        }
        Ok(())
    }

    fn oci_image(&self, raw: &[u8], manifest: &Manifest, name: Option<&str>) -> Result<Planned, ImageError> {
        let raw_config = self.blob(&manifest.config.digest)?;
        let config = ImageConfig::parse(raw_config)?;
        if manifest.layers.len() != config.rootfs.diff_ids.len() {
            let (listed, known) = (manifest.layers.len(), config.rootfs.diff_ids.len());
            return Err(invalid(format!("{listed} layers are listed for a config with {known}")));
        }
        for (descriptor, expected) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            if let Some(actual) = self.layer(&blob_path(&descriptor.digest))
                && actual != *expected
            {
                return Err(ImageError::DigestMismatch { what: "layer", expected: *expected, actual });
            }
        }
        // A bare tag, which the layout allows, names no repository.
        let reference = name.filter(|name| name.contains(['/', ':'])).and_then(|name| name.parse().ok());
        Ok(Planned {
            id: ImageId(manifest.config.digest),
            raw_config: raw_config.to_vec(),
            layers: config.rootfs.diff_ids.clone(),
            config,
            manifest: Some(raw.to_vec()),
            references: reference.into_iter().map(Reference::or_latest).collect(),
        })
    }

    fn blob(&self, digest: &Digest) -> Result<&[u8], ImageError> {
        let raw = self.document(&blob_path(digest))?;
        match Digest::of(raw) {
            actual if actual == *digest => Ok(raw),
            actual => Err(ImageError::DigestMismatch { what: "blob", expected: *digest, actual }),
        }
    }

    fn document(&self, path: &str) -> Result<&[u8], ImageError> {
        let path = self.links.get(path).map_or(path, String::as_str);
        self.documents.get(path).map(Vec::as_slice).ok_or_else(|| invalid(format!("`{path}` is missing")))
    }

    fn layer(&self, path: &str) -> Option<Digest> {
        let path = self.links.get(path).map_or(path, String::as_str);
        self.layers.get(path).copied()
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
