//! What is at rest: three tables, and the changes that are made to them, each list of changes in one transaction.

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Digest, ImageError, ImageId, Reference};

/// Canonical reference → image id.
const REFERENCES: TableDefinition<'_, &str, &str> = TableDefinition::new("image_references");
/// Image id → [`ImageRecord`] as JSON.
const IMAGES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("image_images");
/// Diff id → [`LayerRecord`] as JSON.
const LAYERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("image_layers");

/// An image at rest. Its config is a blob with the image's id as digest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ImageRecord {
    /// The platform manifest that it was pulled by.
    pub(crate) manifest: Option<Digest>,
    /// The indexes on the way to that manifest.
    pub(crate) indexes: Vec<Digest>,
    /// The image that it was committed from.
    pub(crate) parent: Option<ImageId>,
    /// Diff ids, lowest first.
    pub(crate) layers: Vec<Digest>,
    /// When a reference was last put on it; nanoseconds since 1970.
    pub(crate) last_tagged: i64,
    /// Removed by force while containers used it: invisible, and gone with the last of them.
    pub(crate) detached: bool,
}

/// An unpacked layer at rest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LayerRecord {
    /// Images that contain it, each counted as often as it does.
    pub(crate) references: u64,
    /// Bytes of its regular files.
    pub(crate) size: u64,
    /// Bytes of its tar.
    pub(crate) tar_size: u64,
    /// The compressed form that it came in.
    pub(crate) blob: Option<CompressedBlob>,
    /// Repositories that have it, newest last, so that a push need not send it there again.
    pub(crate) known: Vec<KnownBlob>,
}

/// A repository that has a layer, and in which form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KnownBlob {
    /// With its registry: `docker.io/library/busybox`.
    pub(crate) repository: String,
    #[serde(flatten)]
    pub(crate) blob: CompressedBlob,
}

/// More places than a push asks.
const MAX_KNOWN: usize = 16;

impl LayerRecord {
    /// Notes a place; true if it is news.
    pub(crate) fn remember(&mut self, place: &KnownBlob) -> bool {
        if self.known.last() == Some(place) {
            return false;
        }
        self.known.retain(|known| known != place);
        self.known.push(place.clone());
        self.known.drain(..self.known.len().saturating_sub(MAX_KNOWN));
        true
    }
}

/// The compressed form of a layer, as a manifest describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CompressedBlob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
}

/// One change. A list of them is one transaction.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    PutReference(Reference, ImageId),
    DropReference(Reference),
    PutImage(ImageId, ImageRecord),
    DropImage(ImageId),
    PutLayer(Digest, LayerRecord),
    DropLayer(Digest),
}

/// Everything at rest. Rows that cannot be read are left out and logged.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) references: Vec<(Reference, ImageId)>,
    pub(crate) images: Vec<(ImageId, ImageRecord)>,
    pub(crate) layers: Vec<(Digest, LayerRecord)>,
}

/// Makes the tables, so that reading finds them.
pub(crate) fn create(database: &Database) -> Result<(), ImageError> {
    let transaction = database.begin_write().map_err(ImageError::database("begin"))?;
    transaction.open_table(REFERENCES).map_err(ImageError::database("create a table"))?;
    transaction.open_table(IMAGES).map_err(ImageError::database("create a table"))?;
    transaction.open_table(LAYERS).map_err(ImageError::database("create a table"))?;
    transaction.commit().map_err(ImageError::database("commit"))
}

/// Reads every row.
pub(crate) fn read(database: &Database) -> Result<Rows, ImageError> {
    let transaction = database.begin_read().map_err(ImageError::database("begin"))?;
    let mut rows = Rows::default();
    let table = transaction.open_table(REFERENCES).map_err(ImageError::database("read"))?;
    for row in table.iter().map_err(ImageError::database("read"))? {
        let (key, value) = row.map_err(ImageError::database("read"))?;
        match (key.value().parse(), value.value().parse()) {
            (Ok(reference), Ok(image)) => rows.references.push((reference, image)),
            _ => tracing::error!(key = key.value(), "image reference at rest cannot be read"),
        }
    }
    let table = transaction.open_table(IMAGES).map_err(ImageError::database("read"))?;
    for row in table.iter().map_err(ImageError::database("read"))? {
        let (key, value) = row.map_err(ImageError::database("read"))?;
        rows.images.extend(decode("image", key.value(), value.value()));
    }
    let table = transaction.open_table(LAYERS).map_err(ImageError::database("read"))?;
    for row in table.iter().map_err(ImageError::database("read"))? {
        let (key, value) = row.map_err(ImageError::database("read"))?;
        rows.layers.extend(decode("layer", key.value(), value.value()));
    }
    Ok(rows)
}

fn decode<K: std::str::FromStr, V: DeserializeOwned>(what: &str, key: &str, value: &[u8]) -> Option<(K, V)> {
    match (key.parse(), serde_json::from_slice(value)) {
        (Ok(key), Ok(value)) => Some((key, value)),
        _ => {
            tracing::error!(what, key, "record at rest cannot be read");
            None
        }
    }
}

/// Makes all `changes` or none; they survive power loss when this returns.
pub(crate) fn commit(database: &Database, changes: &[Change]) -> Result<(), ImageError> {
    let mut transaction = database.begin_write().map_err(ImageError::database("begin"))?;
    transaction.set_durability(Durability::Immediate).map_err(ImageError::database("begin"))?;
    {
        let mut references = transaction.open_table(REFERENCES).map_err(ImageError::database("write"))?;
        let mut images = transaction.open_table(IMAGES).map_err(ImageError::database("write"))?;
        let mut layers = transaction.open_table(LAYERS).map_err(ImageError::database("write"))?;
        for change in changes {
            let outcome = match change {
                Change::PutReference(reference, image) => {
                    references.insert(reference.to_string().as_str(), image.to_string().as_str()).map(drop)
                }
                Change::DropReference(reference) => {
                    references.remove(reference.to_string().as_str()).map(drop)
                }
                Change::PutImage(image, record) => {
                    images.insert(image.to_string().as_str(), encode(record)?.as_slice()).map(drop)
                }
                Change::DropImage(image) => images.remove(image.to_string().as_str()).map(drop),
                Change::PutLayer(layer, record) => {
                    layers.insert(layer.to_string().as_str(), encode(record)?.as_slice()).map(drop)
                }
                Change::DropLayer(layer) => layers.remove(layer.to_string().as_str()).map(drop),
            };
            outcome.map_err(ImageError::database("write"))?;
        }
    }
    transaction.commit().map_err(ImageError::database("commit"))
}

fn encode(record: &impl Serialize) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(record)
        .map_err(|error| ImageError::corrupt(format!("record cannot be written: {error}")))
}
