//! Asking for images, naming them, and holding them while containers use them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::index::Config;
use super::tables::{Change, ImageRecord, LayerRecord};
use super::{Image, Inner, Store, blobs, lock};
use crate::{Digest, ImageConfig, ImageError, ImageId, Platform, Reference};

/// An image that a pull, load or build has brought: every layer is pinned and in place.
pub(crate) struct NewImage {
    pub(crate) id: ImageId,
    pub(crate) config: ImageConfig,
    pub(crate) raw_config: Vec<u8>,
    /// The raw platform manifest, if it came with one.
    pub(crate) manifest: Option<Vec<u8>>,
    /// The raw indexes on the way to it.
    pub(crate) indexes: Vec<Vec<u8>>,
    pub(crate) parent: Option<ImageId>,
    pub(crate) references: Vec<Reference>,
    pub(crate) layers: Vec<(Digest, LayerRecord)>,
}

/// One step of an image's making, newest first in [`Image::history`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryStep {
    /// The image's id on its newest step, none on the others.
    pub image: Option<ImageId>,
    /// RFC 3339.
    pub created: Option<String>,
    /// The command.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// Familiar tags, on the newest step.
    pub tags: Vec<String>,
    /// Bytes of the layer's regular files; 0 for a step without a layer.
    pub size: u64,
}

impl Image {
    /// How the image came about, newest step first.
    pub fn history(&self) -> Vec<HistoryStep> {
        let mut layers = self.layers.iter();
        let mut steps: Vec<HistoryStep> = self
            .config
            .history
            .iter()
            .map(|step| HistoryStep {
                image: None,
                created: step.created.clone(),
                created_by: step.created_by.clone().unwrap_or_default(),
                comment: step.comment.clone().unwrap_or_default(),
                tags: Vec::new(),
                size: if step.empty_layer { 0 } else { layers.next().map_or(0, |layer| layer.size) },
            })
            .collect();
        // Images made without a history still have layers.
        steps.extend(layers.map(|layer| HistoryStep {
            image: None,
            created: self.created.clone(),
            created_by: String::new(),
            comment: String::new(),
            tags: Vec::new(),
            size: layer.size,
        }));
        if let Some(newest) = steps.last_mut() {
            newest.image = Some(self.id);
            newest.tags.clone_from(&self.repo_tags);
        }
        steps.reverse();
        steps
    }

    /// Whether no tag names it.
    pub fn is_dangling(&self) -> bool {
        self.repo_tags.is_empty()
    }

    /// Seconds since 1970 of its making; 0 where the config does not say.
    pub fn created_seconds(&self) -> i64 {
        let parsed = self.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        parsed.map_or(0, jiff::Timestamp::as_second)
    }
}

impl Store {
    /// Every image, newest first.
    pub fn list(&self) -> Vec<Arc<Image>> {
        let mut images: Vec<Arc<Image>> = self.inner.index().images().cloned().collect();
        images.sort_by_key(|image| (std::cmp::Reverse(image.created_seconds()), image.id));
        images
    }

    /// The image that `name` means: a reference, `repository@digest`, an id, or the beginning of one.
    pub fn get(&self, name: &str) -> Result<Arc<Image>, ImageError> {
        let index = self.inner.index();
        let id = self.inner.resolve(name)?;
        index.image(&id).cloned().ok_or_else(|| no_such_image(name))
    }

    /// Refuses an image that is for another platform than the one that is asked for, if one is.
    pub fn require_platform(&self, name: &str, platform: Option<&Platform>) -> Result<(), ImageError> {
        let image = self.get(name)?;
        match platform {
            Some(wanted) if wanted.distance(&image.platform).is_none() => Err(ImageError::PlatformMismatch {
                reference: name.to_owned(),
                wanted: Box::new(wanted.clone()),
                actual: Box::new(image.platform.clone()),
            }),
            _ => Ok(()),
        }
    }

    /// The directories to put under a container, topmost first.
    pub fn lower_dirs(&self, image: &ImageId) -> Result<Vec<PathBuf>, ImageError> {
        let index = self.inner.index();
        let record = index.records.get(image).ok_or_else(|| no_such_image(&image.to_string()))?;
        // A layer that occurs twice counts once, where it is topmost: overlay refuses the same directory twice,
        // and whatever the lower occurrence shows, the upper one shows again.
        let mut seen = std::collections::HashSet::new();
        let unique = record.layers.iter().rev().filter(|layer| seen.insert(**layer));
        let mut directories = Vec::new();
        for layer in unique {
            directories.push(self.inner.paths.layer(layer).join("diff"));
            // Overlay doesn't ask a layer's root whether it is opaque; what it would hide is left out here.
            if directories.last().is_some_and(|directory| crate::layer::is_opaque(directory)) {
                break;
            }
        }
        Ok(directories)
    }

    /// Puts `target` on the image that `source` means.
    pub fn tag(&self, source: &str, target: &Reference) -> Result<ImageId, ImageError> {
        if target.digest().is_some() {
            return Err(ImageError::InvalidRequest {
                message: "refusing to create a tag with a digest reference".into(),
            });
        }
        let target = target.clone().or_latest();
        self.inner.change(|index| {
            let id = resolve(index, source)?;
            let Some(record) = index.records.get(&id) else { return Err(no_such_image(source)) };
            let record = ImageRecord { last_tagged: now(), ..record.clone() };
            Ok((vec![Change::PutImage(id, record), Change::PutReference(target, id)], id))
        })
    }

    /// Keeps an image's layers while the lease lives, even if the image is removed by force.
    ///
    /// The count is not at rest: after a restart the engine takes a lease for each container that it has, and then
    /// calls [`Store::settle`].
    pub fn hold(&self, image: &ImageId) -> Result<Lease, ImageError> {
        let mut holds = lock(&self.inner.holds);
        if !self.inner.index().records.contains_key(image) {
            return Err(no_such_image(&image.to_string()));
        }
        *holds.entry(*image).or_default() += 1;
        Ok(Lease { inner: Arc::clone(&self.inner), image: *image })
    }

    /// Deletes the images that were removed by force while containers used them, as far as no lease holds them now.
    pub fn settle(&self) -> Result<(), ImageError> {
        let index = self.inner.index();
        for (image, _) in index.records.iter().filter(|(_, record)| record.detached) {
            self.inner.delete_detached(image)?;
        }
        Ok(())
    }
}

/// Keeps an image's layers in place until it is dropped.
pub struct Lease {
    inner: Arc<Inner>,
    image: ImageId,
}

impl Lease {
    /// The image.
    pub fn image(&self) -> ImageId {
        self.image
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({})", self.image)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        {
            let mut holds = lock(&self.inner.holds);
            match holds.get_mut(&self.image) {
                Some(count) if *count > 1 => {
                    *count -= 1;
                    return;
                }
                _ => holds.remove(&self.image),
            };
        }
        let detached = self.inner.index().records.get(&self.image).is_some_and(|record| record.detached);
        if detached && let Err(error) = self.inner.delete_detached(&self.image) {
            // The next settle tries again.
            tracing::error!(image = %self.image, error = error.sentence(), "image cannot be deleted");
        }
    }
}

impl Inner {
    /// The image id that `name` means.
    pub(crate) fn resolve(&self, name: &str) -> Result<ImageId, ImageError> {
        resolve(&self.index(), name)
    }

    pub(crate) fn is_held(&self, image: &ImageId) -> bool {
        lock(&self.holds).contains_key(image)
    }

    /// Puts an image at rest with its references. Afterwards it survives power loss; before, nobody sees it.
    pub(crate) fn add(&self, new: NewImage) -> Result<bool, ImageError> {
        self.sync_layers(&new)?;
        self.change(|index| {
            // Under the writer's lock, so that no removal clears the blobs away before the rows name them.
            blobs::write(&self.paths, &new.raw_config)?;
            let manifest = new.manifest.as_deref().map(|raw| blobs::write(&self.paths, raw)).transpose()?;
            let indexes: Vec<Digest> =
                new.indexes.iter().map(|raw| blobs::write(&self.paths, raw)).collect::<Result<_, _>>()?;
            let mut changes = Vec::new();
            let newer = new.references.first().is_none_or(|name| index.references.get(name) != Some(&new.id));
            let old = index.records.get(&new.id).filter(|_| index.has_config(&new.id)).cloned();
            if old.is_none() {
                let config = Config { parsed: Arc::new(new.config), raw: new.raw_config.into() };
                index.add_config(new.id, config);
                changes.extend(counted(index, &new.layers));
            } else {
                changes.extend(remembered(index, &new.layers));
            }
            let old = old.unwrap_or_default();
            let record = ImageRecord {
                manifest: manifest.or(old.manifest),
                indexes: if indexes.is_empty() { old.indexes } else { indexes },
                parent: new.parent.or(old.parent),
                layers: new.layers.iter().map(|(diff_id, _)| *diff_id).collect(),
                last_tagged: if newer { now() } else { old.last_tagged },
                detached: false,
            };
            changes.push(Change::PutImage(new.id, record));
            changes.extend(new.references.into_iter().map(|name| Change::PutReference(name, new.id)));
            Ok((changes, newer))
        })
    }

    /// Notes that a repository has a layer.
    pub(crate) fn remember(&self, diff_id: Digest, place: &super::KnownBlob) -> Result<(), ImageError> {
        let fresh = LayerRecord { known: vec![place.clone()], ..LayerRecord::default() };
        self.change(|index| Ok((remembered(index, &[(diff_id, fresh)]), ())))
    }

    /// Puts one more reference on an image, if it is still there.
    pub(crate) fn refer(&self, reference: Reference, image: ImageId) -> Result<(), ImageError> {
        self.change(|index| {
            let there = index.image(&image).is_some();
            Ok((there.then_some(Change::PutReference(reference, image)).into_iter().collect(), ()))
        })
    }

    /// Writes out the layers that no image at rest relies on yet: one call for the whole file system, not one per file.
    fn sync_layers(&self, new: &NewImage) -> Result<(), ImageError> {
        let index = self.index();
        if new.layers.iter().all(|(diff_id, _)| index.layers.contains_key(diff_id)) {
            return Ok(());
        }
        let directory =
            std::fs::File::open(&self.paths.layers).map_err(ImageError::file("open", &self.paths.layers))?;
        rustix::fs::syncfs(&directory)
            .map_err(|error| ImageError::file("write out", &self.paths.layers)(error.into()))
    }
}

/// The layer rows with one more reference per occurrence.
fn counted(index: &super::Index, layers: &[(Digest, LayerRecord)]) -> Vec<Change> {
    let mut rows = std::collections::BTreeMap::<Digest, LayerRecord>::new();
    for (diff_id, fresh) in layers {
        let row = rows.entry(*diff_id).or_insert_with(|| match index.layers.get(diff_id) {
            Some(known) => known.clone(),
            None => LayerRecord { references: 0, ..fresh.clone() },
        });
        if row.blob.is_none() {
            row.blob.clone_from(&fresh.blob);
        }
        for place in &fresh.known {
            row.remember(place);
        }
        row.references += 1;
    }
    rows.into_iter().map(|(diff_id, record)| Change::PutLayer(diff_id, record)).collect()
}

/// The layer rows with the places that these records name.
fn remembered(index: &super::Index, layers: &[(Digest, LayerRecord)]) -> Vec<Change> {
    let changed = |(diff_id, fresh): &(Digest, LayerRecord)| {
        let mut row = index.layers.get(diff_id)?.clone();
        let mut news = false;
        for place in &fresh.known {
            news |= row.remember(place);
        }
        news.then_some(Change::PutLayer(*diff_id, row))
    };
    layers.iter().filter_map(changed).collect()
}

/// A reference first, then an id, then the beginning of one: docker's order.
pub(super) fn resolve(index: &super::Index, name: &str) -> Result<ImageId, ImageError> {
    if let Some(id) = as_id(name) {
        return index.image(&id).map(|image| image.id).ok_or_else(|| no_such_image(name));
    }
    let reference: Reference = name.parse()?;
    let reference = reference.or_latest();
    if let Some(id) = index.references.get(&reference) {
        return Ok(*id);
    }
    if let (Some(_), Some(digest)) = (reference.tag(), reference.digest())
        && let Some(id) = index.references.get(&reference.with_digest(digest))
    {
        return Ok(*id);
    }
    if let Some(digest) = reference.digest() {
        // `repository@id` names an image of that repository by its id, as `docker images --digests` users do.
        let id = ImageId(digest);
        if index.references_of(&id).iter().any(|known| known.name() == reference.name()) {
            return Ok(id);
        }
    }
    by_prefix(index, name)?.ok_or_else(|| ImageError::NoSuchImage { name: reference.familiar() })
}

/// A whole id, with or without `sha256:`.
fn as_id(name: &str) -> Option<ImageId> {
    let digest = name.parse().ok().or_else(|| Digest::from_hex(name).ok())?;
    Some(ImageId(digest))
}

fn by_prefix(index: &super::Index, name: &str) -> Result<Option<ImageId>, ImageError> {
    if !is_id_prefix(name) {
        return Ok(None);
    }
    let prefix = name.strip_prefix("sha256:").unwrap_or(name);
    let mut found = index.images().map(|image| image.id).filter(|id| id.0.hex().starts_with(prefix));
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(ImageError::AmbiguousId { prefix: prefix.to_owned() }),
        (one, _) => Ok(one),
    }
}

fn is_id_prefix(name: &str) -> bool {
    let prefix = name.strip_prefix("sha256:").unwrap_or(name);
    !prefix.is_empty()
        && prefix.len() <= 64
        && prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `name` was an id or the beginning of one, rather than a reference.
pub(super) fn names_by_id(name: &str, id: &ImageId) -> bool {
    let prefix = name.strip_prefix("sha256:").unwrap_or(name);
    is_id_prefix(name) && id.0.hex().starts_with(prefix)
}

pub(super) fn no_such_image(name: &str) -> ImageError {
    let name = match name.parse::<Reference>() {
        Ok(reference) => reference.or_latest().familiar(),
        Err(_) => name.to_owned(),
    };
    ImageError::NoSuchImage { name }
}

fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX)
}
