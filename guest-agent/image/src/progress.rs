//! What pulls and loads report while they run, in the stages that docker's clients render.

use crate::{Digest, ImageError, ImageId, Reference};

/// One step of a pull.
#[derive(Debug)]
pub enum PullEvent {
    /// A plain line: `Pulling from library/busybox` (with the tag as `id`), `Digest: …`, `Status: …`.
    Status {
        /// What the line is about, if it is about one thing.
        id: Option<String>,
        /// The line.
        status: String,
    },
    /// One layer moved on.
    Layer {
        /// The first twelve digits of the compressed layer's digest.
        id: String,
        /// How far it is.
        stage: LayerStage,
    },
    /// The last event of a pull that succeeded.
    Done(Pulled),
    /// The last event of a pull that failed.
    Error(ImageError),
}

/// How far a layer is. [`LayerStage::label`] is docker's word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerStage {
    /// Known, not begun.
    PullingFsLayer,
    /// Waits for its turn.
    Waiting,
    /// Bytes are arriving.
    Downloading(Progress),
    /// All bytes are here.
    VerifyingChecksum,
    /// And they are the right ones.
    DownloadComplete,
    /// Files are being written; counts compressed bytes.
    Extracting(Progress),
    /// In place.
    PullComplete,
    /// Was in place.
    AlreadyExists,
}

/// A part of a whole, in bytes; `total` is 0 where it is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Progress {
    /// So far.
    pub current: u64,
    /// In all.
    pub total: u64,
}

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image.
    pub image: ImageId,
    /// The digest that the reference stands for in the registry.
    pub digest: Digest,
    /// The reference that now names the image.
    pub reference: Reference,
    /// Whether the reference named another image, or none, before.
    pub newer: bool,
}

/// One step of a load.
#[derive(Debug)]
pub enum LoadEvent {
    /// A layer is being unpacked.
    Layer {
        /// The first twelve digits of the layer's diff id, or the name in the archive while that is not known.
        id: String,
        /// How much of its bytes.
        progress: Progress,
    },
    /// An image is in place.
    Loaded {
        /// Which.
        image: ImageId,
        /// Its new name; an archive may hold images without one.
        reference: Option<Reference>,
    },
    /// The last event of a load that succeeded.
    Done,
    /// The last event of a load that failed.
    Error(ImageError),
}

impl LoadEvent {
    /// What docker prints for it: `Loaded image: busybox:latest`.
    pub fn line(&self) -> Option<String> {
        match self {
            LoadEvent::Loaded { reference: Some(reference), .. } => {
                Some(format!("Loaded image: {}\n", reference.familiar()))
            }
            LoadEvent::Loaded { image, reference: None } => Some(format!("Loaded image ID: {image}\n")),
            _ => None,
        }
    }
}

impl LayerStage {
    /// Docker's word for this stage.
    pub fn label(&self) -> &'static str {
        match self {
            LayerStage::PullingFsLayer => "Pulling fs layer",
            LayerStage::Waiting => "Waiting",
            LayerStage::Downloading(_) => "Downloading",
            LayerStage::VerifyingChecksum => "Verifying Checksum",
            LayerStage::DownloadComplete => "Download complete",
            LayerStage::Extracting(_) => "Extracting",
            LayerStage::PullComplete => "Pull complete",
            LayerStage::AlreadyExists => "Already exists",
        }
    }

    /// The bytes of this stage, if it counts any.
    pub fn progress(&self) -> Option<Progress> {
        match self {
            LayerStage::Downloading(progress) | LayerStage::Extracting(progress) => Some(*progress),
            _ => None,
        }
    }
}
