//! Loading images from an archive: docker's own format and the OCI layout, plain or compressed.
//!
//! One pass, whatever the order of the entries: what looks like a layer is unpacked while it arrives, small documents are
//! kept in memory, and at the end the documents say which layers belong to which image. What belongs to none goes again.

mod archive;
mod plan;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use crate::layer::Arrival;
use crate::pull::blocking;
use crate::store::{Inner, LayerRecord, NewImage, Pin};
use crate::{Digest, ImageError, LoadEvent, Platform, Store};

/// Bytes read from the client at once.
const PIECE: usize = 128 * 1024;
/// Pieces between the client and the unpacking.
const QUEUE: usize = 16;

/// What an archive held.
#[derive(Default)]
struct Content {
    /// Small files by path.
    documents: HashMap<String, Vec<u8>>,
    /// Layers by path, and what they turned out to be.
    layers: HashMap<String, Digest>,
    /// Links of one path to another.
    links: HashMap<String, String>,
    /// Keeps the layers until the images that name them are at rest.
    pins: HashMap<Digest, (Pin, LayerRecord)>,
}

impl Store {
    /// Loads the images of an archive, or those for one platform. The last event is `Done` or `Error`; dropping the receiver gives the load up.
    ///
    /// Call it within a tokio runtime.
    pub fn load(
        &self,
        archive: impl AsyncRead + Send + Unpin + 'static,
        platform: Option<Platform>,
    ) -> mpsc::Receiver<LoadEvent> {
        let (events, receiver) = mpsc::channel(64);
        let inner = Arc::clone(self.inner());
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = run(inner, archive, platform, events.clone()) => outcome,
                () = events.closed() => Err(ImageError::Cancelled),
            };
            let last = match outcome {
                Ok(()) => LoadEvent::Done,
                Err(error) => LoadEvent::Error(error),
            };
            // Nobody listens any more if this fails.
            let _ = events.send(last).await;
        });
        receiver
    }
}

async fn run(
    inner: Arc<Inner>,
    archive: impl AsyncRead + Send + Unpin,
    platform: Option<Platform>,
    events: mpsc::Sender<LoadEvent>,
) -> Result<(), ImageError> {
    let (sink, arrivals) = mpsc::channel(QUEUE);
    let reading = blocking({
        let (inner, events) = (Arc::clone(&inner), events.clone());
        move || archive::read(&inner, arrivals, &events)
    });
    let (fed, content) = tokio::join!(feed(archive, sink), reading);
    let content = match (fed, content) {
        // A broken stream looks like a given-up one to the reading side.
        (Err(error), Err(ImageError::Cancelled)) => return Err(error),
        (_, content) => content?,
    };
    blocking(move || {
        let Content { documents, layers, links, pins } = content;
        let images = plan::for_platform(plan::images(&documents, &layers, &links)?, platform.as_ref())?;
        // Layers that the archive left out because the store has them.
        let mut kept = Vec::new();
        for image in images {
            let records = image
                .layers
                .iter()
                .map(|diff_id| {
                    let found =
                        pins.get(diff_id).map(|(pin, fresh)| pin.record().unwrap_or_else(|| fresh.clone()));
                    let found = found.or_else(|| {
                        kept.push(inner.pin(*diff_id));
                        kept.last().and_then(Pin::record)
                    });
                    let missing = || ImageError::Archive { what: format!("layer {diff_id} is missing") };
                    Ok((*diff_id, found.ok_or_else(missing)?))
                })
                .collect::<Result<Vec<_>, ImageError>>()?;
            let (id, references) = (image.id, image.references.clone());
            inner.add(NewImage {
                id,
                config: image.config,
                raw_config: image.raw_config,
                manifest: image.manifest,
                indexes: Vec::new(),
                parent: None,
                references: image.references,
                layers: records,
            })?;
            let names = references.into_iter().map(Some).collect::<Vec<_>>();
            for reference in if names.is_empty() { vec![None] } else { names } {
                let _ = events.blocking_send(LoadEvent::Loaded { image: id, reference });
            }
        }
        drop((pins, kept));
        Ok(())
    })
    .await
}

/// Hands the client's bytes on. A reader that has enough ends it without an error.
async fn feed(mut archive: impl AsyncRead + Unpin, sink: mpsc::Sender<Arrival>) -> Result<(), ImageError> {
    loop {
        let mut piece = bytes::BytesMut::with_capacity(PIECE);
        if archive.read_buf(&mut piece).await.map_err(ImageError::ReadArchive)? == 0 {
            let _ = sink.send(Arrival::End).await;
            return Ok(());
        }
        if sink.send(Arrival::Data(piece.freeze())).await.is_err() {
            return Ok(());
        }
    }
}
