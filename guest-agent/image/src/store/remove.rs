//! Removing images by docker's rules: names go first, the image with its last name, and what is in use stays.

use super::images::{names_by_id, no_such_image, resolve};
use super::tables::{Change, ImageRecord, LayerRecord};
use super::{Image, Index, Inner, Store, blobs, lock};
use crate::{Digest, ImageError, ImageId, Reference};

/// Whether containers use an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InUse {
    /// None does.
    No,
    /// A container that does not run.
    Stopped {
        /// Its id.
        container: String,
    },
    /// A container that runs.
    Running {
        /// Its id.
        container: String,
    },
}

/// One thing that a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A familiar reference is gone.
    Untagged(String),
    /// An image, or a layer (by its chain id), is gone.
    Deleted(String),
}

/// What a prune did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// In the order done.
    pub removed: Vec<Removed>,
    /// Bytes of the files of the layers that are gone.
    pub space_reclaimed: u64,
}

struct Removal<'a> {
    index: &'a mut Index,
    force: bool,
    prune: bool,
    in_use: &'a dyn Fn(&ImageId) -> InUse,
    held: &'a dyn Fn(&ImageId) -> bool,
    removed: Vec<Removed>,
    changes: Vec<Change>,
    layers: Vec<(Digest, LayerRecord)>,
}

/// Why an image cannot go.
struct Obstacle {
    hard: bool,
    used: bool,
    message: String,
}

impl Store {
    /// Removes what `name` means: a reference, and the image with its last one, or an image by its id.
    ///
    /// The names are gone and the answer is given at once; space is given back behind it.
    pub fn remove(
        &self,
        name: &str,
        force: bool,
        noprune: bool,
        in_use: &dyn Fn(&ImageId) -> InUse,
    ) -> Result<Vec<Removed>, ImageError> {
        self.remove_counting(name, force, noprune, in_use).map(|(removed, _)| removed)
    }

    /// Removes images without a tag, or (`dangling_only` false) all that no container uses, as far as `admit` agrees.
    pub fn prune(
        &self,
        dangling_only: bool,
        admit: &dyn Fn(&Image) -> bool,
        in_use: &dyn Fn(&ImageId) -> InUse,
    ) -> Result<Pruned, ImageError> {
        let mut pruned = Pruned::default();
        for image in self.list() {
            let wanted = (image.is_dangling() || !dangling_only) && admit(&image);
            if !wanted || in_use(&image.id) != InUse::No || self.inner.index().has_children(&image.id) {
                continue;
            }
            let names: Vec<String> = match self.inner.index().references_of(&image.id) {
                names if names.is_empty() => vec![image.id.to_string()],
                names => names.iter().map(Reference::to_string).collect(),
            };
            for name in names {
                match self.remove_counting(&name, false, false, in_use) {
                    Ok((removed, size)) => {
                        pruned.removed.extend(removed);
                        pruned.space_reclaimed += size;
                    }
                    // Removing one name may have removed others, and a container may have begun to use the image.
                    Err(ImageError::NoSuchImage { .. } | ImageError::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(pruned)
    }

    fn remove_counting(
        &self,
        name: &str,
        force: bool,
        noprune: bool,
        in_use: &dyn Fn(&ImageId) -> InUse,
    ) -> Result<(Vec<Removed>, u64), ImageError> {
        let (removed, layers) = self.inner.change(|index| {
            let held = |image: &ImageId| self.inner.is_held(image);
            let mut removal = Removal {
                index,
                force,
                prune: !noprune,
                in_use,
                held: &held,
                removed: Vec::new(),
                changes: Vec::new(),
                layers: Vec::new(),
            };
            removal.remove(name)?;
            let Removal { removed, changes, layers, .. } = removal;
            Ok((changes, (removed, layers)))
        })?;
        self.inner.clear_blobs();
        for (diff_id, _) in &layers {
            self.inner.discard_layer(diff_id);
        }
        Ok((removed, layers.iter().map(|(_, record)| record.size).sum()))
    }
}

impl Inner {
    /// Deletes an image that is invisible already, unless it is held again.
    pub(crate) fn delete_detached(&self, image: &ImageId) -> Result<(), ImageError> {
        let layers = self.change(|index| {
            let record = index.records.get(image).filter(|record| record.detached).cloned();
            let Some(record) = record.filter(|_| !self.is_held(image)) else {
                return Ok((Vec::new(), Vec::new()));
            };
            let (mut changes, gone) = release(index, &record);
            changes.push(Change::DropImage(*image));
            Ok((changes, gone))
        })?;
        self.clear_blobs();
        for (diff_id, _) in &layers {
            self.discard_layer(diff_id);
        }
        Ok(())
    }

    /// Removes blobs that no image names. Blobs of running pulls are safe: they are written under the writer's lock,
    /// as the rows that name them are.
    fn clear_blobs(&self) {
        let _writer = lock(&self.writer);
        let index = self.index();
        let used: std::collections::HashSet<Digest> = index
            .records
            .iter()
            .flat_map(|(image, record)| {
                [image.0].into_iter().chain(record.manifest).chain(record.indexes.iter().copied())
            })
            .collect();
        let Ok(entries) = std::fs::read_dir(&self.paths.blobs) else { return };
        for entry in entries.flatten() {
            let digest = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok());
            if let Some(unused) = digest.filter(|digest| !used.contains(digest)) {
                let _ = std::fs::remove_file(blobs::path(&self.paths, &unused));
            }
        }
    }
}

impl Removal<'_> {
    fn remove(&mut self, name: &str) -> Result<(), ImageError> {
        let id = resolve(self.index, name)?;
        let references = self.index.references_of(&id);
        let mut quiet = false;
        if names_by_id(name, &id) && !self.is_reference(name) {
            if is_single(&references) {
                let checks = Checks { references: false, stopped: !self.force };
                if let Some(obstacle) = self.obstacle(&id, checks) {
                    return Err(obstacle.into_error(&id));
                }
                for reference in references {
                    self.untag(&reference);
                }
            }
        } else {
            if !self.force && is_single(&references) {
                self.refuse_to_orphan(name, &id)?;
            }
            let reference = self.index_reference(name)?;
            if self.untag_with_digests(&reference, &id) {
                return Ok(());
            }
            quiet = true;
        }
        self.delete(id, quiet)
    }

    /// A reference wins over an id that begins with the same letters, as in [`resolve`].
    fn is_reference(&self, name: &str) -> bool {
        self.index_reference(name).is_ok()
    }

    fn index_reference(&self, name: &str) -> Result<Reference, ImageError> {
        let reference = name.parse::<Reference>()?.or_latest();
        if self.index.references.contains_key(&reference) {
            return Ok(reference);
        }
        match reference.digest().map(|digest| reference.with_digest(digest)) {
            Some(by_digest) if self.index.references.contains_key(&by_digest) => Ok(by_digest),
            _ => Err(no_such_image(name)),
        }
    }

    fn refuse_to_orphan(&self, name: &str, id: &ImageId) -> Result<(), ImageError> {
        let container = match (self.in_use)(id) {
            InUse::No => return Ok(()),
            InUse::Stopped { container } | InUse::Running { container } => container,
        };
        let message = format!(
            "unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image {}",
            shorten(&container),
            id.short()
        );
        Err(ImageError::Conflict { message })
    }

    /// Takes one reference away, and the repository's digests with its last tag. True if others remain.
    fn untag_with_digests(&mut self, reference: &Reference, id: &ImageId) -> bool {
        self.untag(reference);
        let mut rest = self.index.references_of(id);
        let same = |other: &Reference| other.name() == reference.name();
        let tags_left = rest.iter().any(|other| other.digest().is_none() && same(other));
        if reference.digest().is_none() && !tags_left {
            for other in rest.iter().filter(|other| other.digest().is_some() && same(other)) {
                self.untag(other);
            }
            rest.retain(|other| !(other.digest().is_some() && same(other)));
        }
        !rest.is_empty()
    }

    fn delete(&mut self, id: ImageId, quiet: bool) -> Result<(), ImageError> {
        let checks = Checks { references: !self.force, stopped: !self.force };
        if let Some(obstacle) = self.obstacle(&id, checks) {
            let dangling = self.index.references_of(&id).is_empty();
            if quiet && (!dangling || obstacle.used) {
                return Ok(());
            }
            return Err(obstacle.into_error(&id));
        }
        for reference in self.index.references_of(&id) {
            self.untag(&reference);
        }
        let Some(record) = self.index.records.get(&id).cloned() else { return Ok(()) };
        self.removed.push(Removed::Deleted(id.to_string()));
        if (self.held)(&id) {
            self.apply(vec![Change::PutImage(id, ImageRecord { detached: true, ..record.clone() })]);
        } else {
            let (mut changes, gone) = release(self.index, &record);
            changes.push(Change::DropImage(id));
            let chain = chain_ids(&record.layers);
            for (diff_id, chain_id) in record.layers.iter().zip(chain).rev() {
                if gone.iter().any(|(layer, _)| layer == diff_id) {
                    self.removed.push(Removed::Deleted(chain_id.to_string()));
                }
            }
            self.apply(changes);
            self.layers.extend(gone);
        }
        match record.parent.filter(|_| self.prune) {
            Some(parent) if self.index.image(&parent).is_some() => {
                self.force = false;
                self.delete(parent, true)
            }
            _ => Ok(()),
        }
    }

    fn obstacle(&self, id: &ImageId, checks: Checks) -> Option<Obstacle> {
        let obstacle = |hard, used, message: String| Some(Obstacle { hard, used, message });
        if self.index.has_children(id) {
            return obstacle(true, false, "image has dependent child images".into());
        }
        let in_use = (self.in_use)(id);
        if let InUse::Running { container } = &in_use {
            return obstacle(
                true,
                true,
                format!("image is being used by running container {}", shorten(container)),
            );
        }
        if checks.references && self.index.references_of(id).len() > 1 {
            return obstacle(false, false, "image is referenced in multiple repositories".into());
        }
        match in_use {
            InUse::Stopped { container } if checks.stopped => obstacle(
                false,
                true,
                format!("image is being used by stopped container {}", shorten(&container)),
            ),
            _ => None,
        }
    }

    fn untag(&mut self, reference: &Reference) {
        self.removed.push(Removed::Untagged(reference.familiar()));
        self.apply(vec![Change::DropReference(reference.clone())]);
    }

    /// Later decisions of this removal see what it has decided so far.
    fn apply(&mut self, changes: Vec<Change>) {
        self.index.apply(&changes);
        self.changes.extend(changes);
    }
}

#[derive(Clone, Copy)]
struct Checks {
    references: bool,
    stopped: bool,
}

impl Obstacle {
    fn into_error(self, id: &ImageId) -> ImageError {
        let remedy = if self.hard { "cannot be forced" } else { "must be forced" };
        let message = format!("unable to delete {} ({remedy}) - {}", id.short(), self.message);
        ImageError::Conflict { message }
    }
}

/// The rows without one image's references, and the layers that nobody references any more.
fn release(index: &Index, record: &ImageRecord) -> (Vec<Change>, Vec<(Digest, LayerRecord)>) {
    let mut rows = std::collections::BTreeMap::<Digest, LayerRecord>::new();
    for diff_id in &record.layers {
        if let Some(known) = index.layers.get(diff_id) {
            let row = rows.entry(*diff_id).or_insert_with(|| known.clone());
            row.references = row.references.saturating_sub(1);
        }
    }
    let (gone, kept): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, row)| row.references == 0);
    let changes = gone
        .iter()
        .map(|(diff_id, _)| Change::DropLayer(*diff_id))
        .chain(kept.into_iter().map(|(diff_id, row)| Change::PutLayer(diff_id, row)))
        .collect();
    (changes, gone)
}

/// The names of the stacks that end in each layer.
fn chain_ids(layers: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(layers.len());
    for diff_id in layers {
        chain.push(match chain.last() {
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
            None => *diff_id,
        });
    }
    chain
}

/// At most one tag, and no digests but those of one repository, the tag's.
fn is_single(references: &[Reference]) -> bool {
    if references.len() <= 1 {
        return true;
    }
    let mut tags = references.iter().filter(|reference| reference.digest().is_none());
    let first = tags.next().or(references.first());
    tags.next().is_none()
        && references.iter().all(|other| first.is_some_and(|first| first.name() == other.name()))
}

fn shorten(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}
