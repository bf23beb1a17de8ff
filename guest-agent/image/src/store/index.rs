//! The tables as they are asked for: derived from them at open and after each commit, never written down.
//!
//! Readers take one `Arc` of a whole index and never wait for a commit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::tables::{Change, ImageRecord, LayerRecord};
use super::{Image, LayerInfo};
use crate::{Digest, ImageConfig, ImageId, Reference};

/// A config blob, read and parsed once.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) parsed: Arc<ImageConfig>,
    pub(crate) raw: Bytes,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub(crate) references: BTreeMap<Reference, ImageId>,
    pub(crate) records: HashMap<ImageId, ImageRecord>,
    pub(crate) layers: HashMap<Digest, LayerRecord>,
    configs: HashMap<ImageId, Config>,
    /// What clients see; derived from all of the above.
    views: HashMap<ImageId, Arc<Image>>,
}

impl Index {
    /// Adds an image's config, which [`Change::PutImage`] relies on.
    pub(crate) fn add_config(&mut self, image: ImageId, config: Config) {
        self.configs.insert(image, config);
    }

    /// Whether the image's config is known.
    pub(crate) fn has_config(&self, image: &ImageId) -> bool {
        self.configs.contains_key(image)
    }

    /// Makes the same changes as [`super::tables::commit`] made.
    pub(crate) fn apply(&mut self, changes: &[Change]) {
        let mut touched = Vec::new();
        for change in changes {
            match change {
                Change::PutReference(reference, image) => {
                    touched.extend(self.references.insert(reference.clone(), *image));
                    touched.push(*image);
                }
                Change::DropReference(reference) => touched.extend(self.references.remove(reference)),
                Change::PutImage(image, record) => {
                    self.records.insert(*image, record.clone());
                    touched.push(*image);
                }
                Change::DropImage(image) => {
                    self.records.remove(image);
                    self.configs.remove(image);
                    touched.push(*image);
                }
                Change::PutLayer(layer, record) => {
                    self.layers.insert(*layer, record.clone());
                }
                Change::DropLayer(layer) => {
                    self.layers.remove(layer);
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for image in touched {
            match self.view(&image) {
                Some(view) => self.views.insert(image, Arc::new(view)),
                None => self.views.remove(&image),
            };
        }
    }

    /// Every visible image.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.views.values()
    }

    /// A visible image.
    pub(crate) fn image(&self, image: &ImageId) -> Option<&Arc<Image>> {
        self.views.get(image)
    }

    /// The references of an image, in order.
    pub(crate) fn references_of(&self, image: &ImageId) -> Vec<Reference> {
        self.references
            .iter()
            .filter(|(_, id)| *id == image)
            .map(|(reference, _)| reference.clone())
            .collect()
    }

    /// Whether images were committed from this one.
    pub(crate) fn has_children(&self, image: &ImageId) -> bool {
        self.records.values().any(|record| !record.detached && record.parent.as_ref() == Some(image))
    }

    fn view(&self, image: &ImageId) -> Option<Image> {
        let record = self.records.get(image).filter(|record| !record.detached)?;
        let config = self.configs.get(image)?;
        let (mut repo_tags, mut repo_digests) = (Vec::new(), Vec::new());
        for reference in self.references_of(image) {
            let names = if reference.digest().is_some() { &mut repo_digests } else { &mut repo_tags };
            names.push(reference.familiar());
        }
        let layers: Vec<LayerInfo> = record
            .layers
            .iter()
            .map(|diff_id| {
                let layer = self.layers.get(diff_id);
                LayerInfo {
                    diff_id: *diff_id,
                    size: layer.map_or(0, |layer| layer.size),
                    blob: layer.and_then(|layer| layer.blob.as_ref()).map(|blob| blob.digest),
                }
            })
            .collect();
        Some(Image {
            id: *image,
            platform: config.parsed.platform(),
            created: config.parsed.created.clone(),
            config: Arc::clone(&config.parsed),
            raw_config: config.raw.clone(),
            repo_tags,
            repo_digests,
            size: layers.iter().map(|layer| layer.size).sum(),
            layers,
            manifest: record.manifest,
            parent: record.parent,
            last_tagged: std::time::UNIX_EPOCH
                + std::time::Duration::from_nanos(u64::try_from(record.last_tagged).unwrap_or(0)),
        })
    }
}
