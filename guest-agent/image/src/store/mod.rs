//! The image store: which images there are, what they are called, and where their layers lie.
//!
//! ```text
//! <root>/blobs/sha256/<digest>     manifests, indexes, configs
//! <root>/layers/<diff id>/diff     an unpacked layer in overlay's form
//! <root>/layers/<diff id>/headers  the rest of its tar, so that it can be saved byte for byte
//! <root>/ingest/                   what is being written; emptied at open
//! <root>/trash/                    what is being deleted; emptied at open and behind every removal
//! ```
//!
//! The database decides: a layer directory without a row is a leftover of a pull that did not finish, and is removed at open.
//! Directories are renamed into place before the transaction that names them, and renamed away after the one
//! that forgets them, so power loss at any moment leaves a consistent store.
//!
//! Everything here is synchronous; callers in async code enter by `spawn_blocking`.

mod blobs;
mod commit;
mod images;
mod index;
mod layers;
mod recover;
mod remove;
mod tables;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use bytes::Bytes;

pub use commit::HeldLayer;
pub use images::{HistoryStep, Lease};
pub use remove::{InUse, Pruned, Removed};

pub(crate) use blobs::{MAX_BLOB, read as read_blob};
pub(crate) use images::NewImage;
pub(crate) use layers::{Pin, Pins};
pub(crate) use tables::{CompressedBlob, KnownBlob, LayerRecord};

use crate::layer::UnpackLimits;
use crate::{Digest, ImageConfig, ImageError, ImageId, Platform};
use index::Index;
use tables::Change;

/// Where a store lies and what it admits.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Its directory, made if absent. One file system holds all of it.
    pub root: PathBuf,
    /// The engine's database; the store's tables begin with `image_`.
    pub database: Arc<redb::Database>,
    /// What a layer may ask for.
    pub limits: UnpackLimits,
}

impl StoreConfig {
    /// A store in `root` with the default limits.
    pub fn new(root: impl Into<PathBuf>, database: Arc<redb::Database>) -> StoreConfig {
        StoreConfig { root: root.into(), database, limits: UnpackLimits::default() }
    }
}

/// The image store. Clones are handles of the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) paths: Paths,
    pub(crate) limits: UnpackLimits,
    pub(crate) database: Arc<redb::Database>,
    /// Layers that running pulls and loads rely on.
    pub(crate) pins: Mutex<Pins>,
    /// Layers that are being downloaded, so that each is downloaded once.
    pub(crate) flights: Mutex<HashMap<Digest, crate::pull::Flight>>,
    index: RwLock<Arc<Index>>,
    /// Serialises read-decide-commit; readers of `index` do not take it.
    writer: Mutex<()>,
    /// How many containers use each image.
    holds: Mutex<BTreeMap<ImageId, usize>>,
    emptier: layers::Emptier,
}

/// The store's directories.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) root: PathBuf,
    pub(crate) blobs: PathBuf,
    pub(crate) layers: PathBuf,
    pub(crate) ingest: PathBuf,
    pub(crate) trash: PathBuf,
}

/// An image as clients see it.
#[derive(Debug, Clone)]
pub struct Image {
    /// The config's digest.
    pub id: ImageId,
    /// The config.
    pub config: Arc<ImageConfig>,
    /// The config's own bytes.
    pub raw_config: Bytes,
    /// Familiar references with a tag.
    pub repo_tags: Vec<String>,
    /// Familiar references with a digest.
    pub repo_digests: Vec<String>,
    /// Bytes of the regular files of all layers.
    pub size: u64,
    /// RFC 3339, from the config.
    pub created: Option<String>,
    /// Lowest first.
    pub layers: Vec<LayerInfo>,
    /// The manifest that it was pulled by.
    pub manifest: Option<Digest>,
    /// The platform that it is for.
    pub platform: Platform,
    /// The image that it was committed from.
    pub parent: Option<ImageId>,
    /// When a reference was last put on it.
    pub last_tagged: SystemTime,
}

/// One layer of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerInfo {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of its regular files.
    pub size: u64,
    /// Digest of the compressed tar that it came as.
    pub blob: Option<Digest>,
}

impl Store {
    /// Opens the store in `config.root`, making it if absent. Leftovers of what was cut short are removed and logged.
    pub fn open(config: StoreConfig) -> Result<Store, ImageError> {
        let paths = Paths::create(config.root)?;
        tables::create(&config.database)?;
        let index = recover::recover(&paths, &config.database)?;
        let emptier = layers::Emptier::start(&paths)?;
        Ok(Store {
            inner: Arc::new(Inner {
                paths,
                limits: config.limits,
                database: config.database,
                pins: Mutex::default(),
                flights: Mutex::default(),
                index: RwLock::new(Arc::new(index)),
                writer: Mutex::default(),
                holds: Mutex::default(),
                emptier,
            }),
        })
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

/// What is known of a layer that an image names.
pub(crate) fn read_layer(inner: &Inner, diff_id: &Digest) -> Result<LayerRecord, ImageError> {
    let missing = || ImageError::corrupt(format!("layer {diff_id} is missing"));
    inner.index().layers.get(diff_id).cloned().ok_or_else(missing)
}

impl Inner {
    /// The index as of the last commit.
    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Commits what `decide` makes of the newest index, and shows it to readers.
    pub(crate) fn change<T>(
        &self,
        decide: impl FnOnce(&mut Index) -> Result<(Vec<Change>, T), ImageError>,
    ) -> Result<T, ImageError> {
        let _writer = lock(&self.writer);
        let mut next = Index::clone(&self.index());
        let (changes, value) = decide(&mut next)?;
        if !changes.is_empty() {
            tables::commit(&self.database, &changes)?;
            next.apply(&changes);
            *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        }
        Ok(value)
    }
}

/// A poisoned lock guards data that every writer leaves whole: go on.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Paths {
    fn create(root: PathBuf) -> Result<Paths, ImageError> {
        let paths = Paths {
            blobs: root.join("blobs/sha256"),
            layers: root.join("layers"),
            ingest: root.join("ingest"),
            trash: root.join("trash"),
            root,
        };
        for directory in [&paths.blobs, &paths.layers, &paths.ingest, &paths.trash] {
            std::fs::create_dir_all(directory).map_err(ImageError::file("create", directory))?;
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&paths.root, mode).map_err(ImageError::file("protect", &paths.root))?;
        Ok(paths)
    }

    /// A name under `ingest/` that nobody has.
    pub(crate) fn fresh_ingest(&self) -> Result<PathBuf, ImageError> {
        Ok(self.ingest.join(fresh_name()?))
    }

    /// The directory of a layer.
    pub(crate) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers.join(diff_id.hex())
    }
}

fn fresh_name() -> Result<String, ImageError> {
    let number = getrandom::u64()
        .map_err(|error| ImageError::Task { message: format!("no random numbers: {error}") })?;
    Ok(format!("{number:016x}"))
}
