//! New images that come from no registry: layers made of tars and trees, and a config over them.

use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{LayerRecord, NewImage, Pin, Store};
use crate::layer::{Arrival, Pack, Promise, Workspace, ingest};
use crate::{Digest, ImageConfig, ImageError, ImageId, Reference};

/// Bytes handed on at once.
const PIECE: usize = 256 * 1024;
/// Pieces between the source and the unpacking.
const QUEUE: usize = 8;

/// A layer in the store that stays there while this lives, whether an image names it or not.
pub struct HeldLayer {
    pin: Pin,
    record: LayerRecord,
}

impl HeldLayer {
    /// Digest of its tar.
    pub fn diff_id(&self) -> Digest {
        self.pin.diff_id()
    }

    /// Bytes of its regular files.
    pub fn size(&self) -> u64 {
        self.record.size
    }
}

impl std::fmt::Debug for HeldLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeldLayer({})", self.diff_id())
    }
}

impl Store {
    /// Makes a layer of a tar, plain or compressed. Blocks.
    pub fn commit_layer(&self, mut tar: impl Read + Send) -> Result<HeldLayer, ImageError> {
        self.commit(move |sink| {
            let mut buffer = vec![0; PIECE];
            loop {
                match tar.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    // Nobody takes it: the unpacking has failed and says why.
                    Ok(count) if sink.write_all(&buffer[..count]).is_err() => {
                        return Err(ImageError::Cancelled);
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(ImageError::ReadArchive(error)),
                }
            }
        })
    }

    /// Makes a layer of what is in `directory`: with [`Pack::layer`], of what an upper directory changed. Blocks.
    pub fn commit_tree(&self, directory: &Path, pack: &Pack<'_>) -> Result<HeldLayer, ImageError> {
        let opened = std::fs::File::open(directory).map_err(ImageError::file("open", directory))?;
        self.commit(|sink| pack.tree(&opened, sink).map_err(ImageError::from))
    }

    /// The layers of an image, lowest first: what an image committed from it stands on.
    pub fn layers_of(&self, image: &ImageId) -> Result<Vec<HeldLayer>, ImageError> {
        let missing = || super::images::no_such_image(&image.to_string());
        let record = self.inner.index().records.get(image).cloned().ok_or_else(missing)?;
        let held = record.layers.iter().map(|diff_id| {
            let pin = self.inner.pin(*diff_id);
            let record = pin.record().ok_or_else(missing)?;
            Ok(HeldLayer { pin, record })
        });
        held.collect()
    }

    /// Puts an image of these layers, lowest first, into the store. The config's own list of layers is replaced by them.
    ///
    /// When this returns the image survives power loss; before, nobody sees it. Blocks.
    pub fn create_image(
        &self,
        mut config: ImageConfig,
        layers: &[HeldLayer],
        parent: Option<ImageId>,
        reference: Option<Reference>,
    ) -> Result<ImageId, ImageError> {
        config.rootfs.diff_ids = layers.iter().map(HeldLayer::diff_id).collect();
        let raw_config = serde_json::to_vec(&config)
            .map_err(|error| ImageError::corrupt(format!("config cannot be written: {error}")))?;
        // What is written must be read again, after the next start at the latest.
        let config = ImageConfig::parse(&raw_config)?;
        let id = ImageId(Digest::of(&raw_config));
        self.inner.add(NewImage {
            id,
            config,
            raw_config,
            manifest: None,
            indexes: Vec::new(),
            parent,
            references: reference.map(Reference::or_latest).into_iter().collect(),
            layers: layers.iter().map(|layer| (layer.diff_id(), layer.record.clone())).collect(),
        })?;
        Ok(id)
    }

    /// Unpacks what `produce` writes, and publishes it under its diff id.
    fn commit(
        &self,
        produce: impl FnOnce(&mut dyn Write) -> Result<(), ImageError> + Send,
    ) -> Result<HeldLayer, ImageError> {
        let inner = &self.inner;
        let workspace = Workspace::create(inner)?;
        let (sink, arrivals) = mpsc::channel(QUEUE);
        let (produced, ingested) = std::thread::scope(|scope| {
            let produced = scope.spawn(move || {
                let mut output = BufWriter::with_capacity(PIECE, Sink(sink.clone()));
                let outcome = produce(&mut output);
                let flushed = output.flush();
                // Without the end marker the unpacking knows that it was given up.
                if outcome.is_ok() && flushed.is_ok() {
                    let _ = sink.blocking_send(Arrival::End);
                }
                outcome
            });
            let ingested =
                ingest(arrivals, workspace.path(), &inner.limits, Promise::default(), &AtomicU64::new(0));
            (produced.join(), ingested)
        });
        let died = |_| ImageError::Task { message: "a thread that reads a layer panicked".to_owned() };
        let found = match (produced.map_err(died)?, ingested) {
            (_, Ok(found)) => found,
            // The unpacking ends early only for a reason of its own.
            (Err(cause), Err(ImageError::Cancelled)) => return Err(cause),
            (_, Err(error)) => return Err(error),
        };
        let pin = inner.pin(found.diff_id);
        let record =
            LayerRecord { size: found.contents.size, tar_size: found.tar_size, ..LayerRecord::default() };
        inner.publish(&pin, workspace.path(), record)?;
        let record = pin.record().ok_or_else(|| ImageError::corrupt("a new layer is missing"))?;
        Ok(HeldLayer { pin, record })
    }
}

struct Sink(mpsc::Sender<Arrival>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Arrival::Data(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::StoreConfig;

    #[test]
    fn a_committed_image_is_there_after_a_restart_and_a_layer_without_one_is_not() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: layers need root");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let open = |database: std::path::PathBuf| {
            let database = Arc::new(redb::Database::create(database).unwrap());
            Store::open(StoreConfig::new(root.path().join("images"), database)).unwrap()
        };
        let upper = tempfile::tempdir().unwrap();
        std::fs::write(upper.path().join("file"), b"content").unwrap();
        let (id, loose) = {
            let store = open(root.path().join("db"));
            let layer = store.commit_tree(upper.path(), &Pack::layer()).unwrap();
            let same = store.commit_tree(upper.path(), &Pack::layer()).unwrap();
            assert_eq!((layer.diff_id(), layer.size()), (same.diff_id(), 7));
            let loose = store.commit_layer(&[0; 1024][..]).unwrap();
            let loose_id = loose.diff_id();
            assert!(store.inner().paths.layer(&loose_id).is_dir());
            // Cut off here as by a power failure: the layer's drop does not run.
            std::mem::forget(loose);
            let reference = "team/made".parse().unwrap();
            let id = store.create_image(ImageConfig::default(), &[layer], None, Some(reference)).unwrap();
            let base = store.layers_of(&id).unwrap();
            assert_eq!(base[0].diff_id(), same.diff_id());
            (id, loose_id)
        };
        // The forgotten layer keeps that store's memory and with it the database's lock.
        let copy = root.path().join("copy");
        std::fs::copy(root.path().join("db"), &copy).unwrap();
        let store = open(copy);
        let image = store.get("team/made").unwrap();
        assert_eq!((image.id, image.size), (id, 7));
        assert!(!store.inner().paths.layer(&loose).exists());
    }

    #[test]
    fn a_source_that_breaks_off_leaves_nothing() {
        struct Breaking;
        impl Read for Breaking {
            fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let root = tempfile::tempdir().unwrap();
        let database = Arc::new(redb::Database::create(root.path().join("db")).unwrap());
        let store = Store::open(StoreConfig::new(root.path().join("images"), database)).unwrap();
        let error = store.commit_layer(Breaking).unwrap_err();
        assert!(matches!(error, ImageError::ReadArchive(_)), "{error}");
        assert_eq!(std::fs::read_dir(&store.inner().paths.layers).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(&store.inner().paths.ingest).unwrap().count(), 0);
    }
}
