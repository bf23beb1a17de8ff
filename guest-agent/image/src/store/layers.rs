//! Layer directories: published by a rename, pinned while a pull relies on them, deleted behind the client's back.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};

use super::{Inner, LayerRecord, Paths, fresh_name, lock};
use crate::{Digest, ImageError};

/// Layers that must stay although no image at rest names them yet, and what is known of them.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    counts: HashMap<Digest, usize>,
    /// Records of layers that are in place, and in no row yet.
    published: HashMap<Digest, LayerRecord>,
}

/// A promise that a layer, if it is there, stays.
pub(crate) struct Pin {
    inner: Arc<Inner>,
    diff_id: Digest,
    /// Set once the layer was seen in place. From then on it is, even if its last image goes meanwhile.
    known: OnceLock<LayerRecord>,
}

impl Inner {
    /// Pins a layer, whether it is there yet or not.
    pub(crate) fn pin(self: &Arc<Inner>, diff_id: Digest) -> Pin {
        *lock(&self.pins).counts.entry(diff_id).or_default() += 1;
        Pin { inner: Arc::clone(self), diff_id, known: OnceLock::new() }
    }

    /// Renames an unpacked layer into place. If it is in place already, the new copy is dropped.
    pub(crate) fn publish(&self, pin: &Pin, unpacked: &Path, record: LayerRecord) -> Result<(), ImageError> {
        let target = self.paths.layer(&pin.diff_id);
        let mut pins = lock(&self.pins);
        if pins.published.contains_key(&pin.diff_id) || self.index().layers.contains_key(&pin.diff_id) {
            drop(pins);
            return self.discard(unpacked);
        }
        // The last image with this layer may have gone a moment ago, and the pin kept the directory.
        self.discard(&target)?;
        fs::rename(unpacked, &target).map_err(ImageError::file("publish", &target))?;
        pins.published.insert(pin.diff_id, record);
        Ok(())
    }

    /// Moves a file or directory into the trash; its space is given back in the background.
    pub(crate) fn discard(&self, path: &Path) -> Result<(), ImageError> {
        let target = self.paths.trash.join(fresh_name()?);
        match fs::rename(path, &target) {
            Ok(()) => self.emptier.wake(target),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ImageError::File { doing: "remove", path: path.to_owned(), source }),
        }
        Ok(())
    }

    /// Discards a layer that no image names, unless a pull relies on it.
    pub(crate) fn discard_layer(&self, diff_id: &Digest) {
        let mut pins = lock(&self.pins);
        if pins.counts.contains_key(diff_id) || self.index().layers.contains_key(diff_id) {
            return;
        }
        pins.published.remove(diff_id);
        if let Err(error) = self.discard(&self.paths.layer(diff_id)) {
            tracing::error!(layer = %diff_id, error = error.sentence(), "layer cannot be removed");
        }
    }
}

impl Pin {
    /// The layer.
    pub(crate) fn diff_id(&self) -> Digest {
        self.diff_id
    }

    /// What is known of the layer, if it is in place.
    pub(crate) fn record(&self) -> Option<LayerRecord> {
        if let Some(known) = self.known.get() {
            return Some(known.clone());
        }
        let pins = lock(&self.inner.pins);
        let found = self.inner.index().layers.get(&self.diff_id).cloned();
        let found = found.or_else(|| pins.published.get(&self.diff_id).cloned())?;
        Some(self.known.get_or_init(|| found).clone())
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let last = {
            let mut pins = lock(&self.inner.pins);
            let count = pins.counts.get_mut(&self.diff_id).map_or(0, |count| {
                *count -= 1;
                *count
            });
            if count == 0 {
                pins.counts.remove(&self.diff_id);
            }
            count == 0
        };
        if last {
            // A commit, if there was one, came before this: now the row decides.
            self.inner.discard_layer(&self.diff_id);
            let mut pins = lock(&self.inner.pins);
            if !pins.counts.contains_key(&self.diff_id) {
                pins.published.remove(&self.diff_id);
            }
        }
    }
}

/// The thread that deletes what was moved into the trash. It ends with the store, after the last deletion.
pub(crate) struct Emptier {
    paths: mpsc::Sender<PathBuf>,
}

impl Emptier {
    pub(crate) fn start(store: &Paths) -> Result<Emptier, ImageError> {
        let (paths, jobs) = mpsc::channel::<PathBuf>();
        for entry in fs::read_dir(&store.trash).map_err(ImageError::file("read", &store.trash))?.flatten() {
            let _ = paths.send(entry.path());
        }
        std::thread::Builder::new()
            .name("image-trash".to_owned())
            .spawn(move || {
                for path in jobs {
                    if let Err(error) = delete(&path) {
                        tracing::warn!(path = %path.display(), %error, "trash cannot be deleted");
                    }
                }
            })
            .map_err(ImageError::file("start the thread for", &store.trash))?;
        Ok(Emptier { paths })
    }

    fn wake(&self, path: PathBuf) {
        // The thread outlives every sender, so this cannot fail; if it did, the next open would delete the path.
        let _ = self.paths.send(path);
    }
}

fn delete(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Bytes that a directory's files take, following no link. For logs only.
pub(crate) fn disk_usage(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return own;
    }
    fs::read_dir(path)
        .map(|entries| entries.flatten().map(|entry| disk_usage(&entry.path())).sum::<u64>())
        .unwrap_or(0)
        + own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{NewImage, StoreConfig};
    use crate::{ImageConfig, ImageId, InUse, Store};

    #[test]
    fn a_pinned_layer_outlives_its_last_image_and_goes_with_the_pin() {
        let root = tempfile::tempdir().unwrap();
        let database = Arc::new(redb::Database::create(root.path().join("db")).unwrap());
        let store = Store::open(StoreConfig::new(root.path().join("images"), database)).unwrap();
        let inner = store.inner();
        let diff_id = Digest::of(b"layer");
        let first = inner.pin(diff_id);
        let unpacked = inner.paths.fresh_ingest().unwrap();
        fs::create_dir_all(unpacked.join("diff")).unwrap();
        inner.publish(&first, &unpacked, LayerRecord { size: 5, ..LayerRecord::default() }).unwrap();
        let raw_config =
            format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#).into_bytes();
        let id = ImageId(Digest::of(&raw_config));
        let image = NewImage {
            id,
            config: ImageConfig::parse(&raw_config).unwrap(),
            raw_config,
            manifest: None,
            indexes: Vec::new(),
            parent: None,
            references: Vec::new(),
            layers: vec![(diff_id, first.record().unwrap())],
        };
        inner.add(image).unwrap();
        drop(first);
        let directory = inner.paths.layer(&diff_id);
        assert!(directory.is_dir(), "the image keeps it");
        let second = inner.pin(diff_id);
        assert_eq!(second.record().unwrap().size, 5);
        store.remove(&id.to_string(), false, false, &|_| InUse::No).unwrap();
        assert!(directory.is_dir(), "the pin keeps it");
        assert_eq!(second.record().unwrap().size, 5);
        drop(second);
        assert!(!directory.exists());
    }
}
