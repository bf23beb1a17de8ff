//! A layer on its way into the store, once however many pulls wait for it.
//!
//! It flies as long as somebody watches it: when the last watcher is gone, it is given up and leaves nothing.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::blocking;
use crate::layer::{Arrival, Ingested, Promise, Workspace, ingest};
use crate::manifest::Descriptor;
use crate::registry::Session;
use crate::store::{CompressedBlob, Inner, LayerRecord, lock};
use crate::{Digest, ImageError, LayerStage, Progress};

/// Network pieces on their way to the decompressor: a megabyte or so.
const QUEUE: usize = 64;
/// How often the count of unpacked bytes is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How far a flight is.
#[derive(Debug, Clone)]
pub(super) enum State {
    Flying(LayerStage),
    Landed,
    Failed(Arc<ImageError>),
}

/// A layer that is on its way; others may watch it.
pub(crate) struct Flight {
    state: Arc<watch::Sender<State>>,
}

/// Watches the layer's flight, starting it if there is none. The second value tells whether this call started it.
pub(super) fn join(
    inner: &Arc<Inner>,
    session: &Arc<Session>,
    descriptor: &Descriptor,
    diff_id: Digest,
) -> (watch::Receiver<State>, bool) {
    match lock(&inner.flights).entry(diff_id) {
        Entry::Occupied(flight) => (flight.get().state.subscribe(), false),
        Entry::Vacant(place) => {
            let (state, watcher) = watch::channel(State::Flying(LayerStage::Waiting));
            let state = Arc::new(state);
            place.insert(Flight { state: Arc::clone(&state) });
            tokio::spawn(fly(Arc::clone(inner), Arc::clone(session), descriptor.clone(), diff_id, state));
            (watcher, true)
        }
    }
}

async fn fly(
    inner: Arc<Inner>,
    session: Arc<Session>,
    descriptor: Descriptor,
    diff_id: Digest,
    state: Arc<watch::Sender<State>>,
) {
    let outcome = tokio::select! {
        outcome = bring(&inner, &session, &descriptor, diff_id, &state) => outcome,
        () = state.closed() => Err(ImageError::Cancelled),
    };
    lock(&inner.flights).remove(&diff_id);
    state.send_replace(match outcome {
        Ok(()) => State::Landed,
        Err(error) => State::Failed(Arc::new(error)),
    });
}

async fn bring(
    inner: &Arc<Inner>,
    session: &Session,
    descriptor: &Descriptor,
    diff_id: Digest,
    state: &watch::Sender<State>,
) -> Result<(), ImageError> {
    let total = descriptor.size;
    let consumed = Arc::new(AtomicU64::new(0));
    let (sink, arrivals) = mpsc::channel(QUEUE);
    let unpacking = unpack(inner, arrivals, descriptor, diff_id, Arc::clone(&consumed));
    tokio::pin!(unpacking);
    let at = |stage| drop(state.send_replace(State::Flying(stage)));
    let downloading = async {
        at(LayerStage::Downloading(Progress { current: 0, total }));
        let outcome = session
            .stream(descriptor, &sink, |current| at(LayerStage::Downloading(Progress { current, total })))
            .await;
        // Without the end marker the unpacking knows that it was given up.
        drop(sink);
        outcome
    };
    // An unpacking that fails first closes the queue, which ends the download; its error is the telling one.
    let (downloaded, unpacked) = {
        tokio::pin!(downloading);
        tokio::select! {
            downloaded = &mut downloading => (Some(downloaded), None),
            unpacked = &mut unpacking => (None, Some(unpacked)),
        }
    };
    if let Some(unpacked) = unpacked {
        return unpacked;
    }
    if let Some(Err(error)) = downloaded {
        return match unpacking.await {
            Err(ImageError::Cancelled) | Ok(()) => Err(error),
            Err(cause) => Err(cause),
        };
    }
    at(LayerStage::VerifyingChecksum);
    at(LayerStage::DownloadComplete);
    loop {
        let current = consumed.load(Ordering::Relaxed);
        at(LayerStage::Extracting(Progress { current, total }));
        tokio::select! {
            outcome = &mut unpacking => return outcome,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

async fn unpack(
    inner: &Arc<Inner>,
    arrivals: mpsc::Receiver<Arrival>,
    descriptor: &Descriptor,
    diff_id: Digest,
    consumed: Arc<AtomicU64>,
) -> Result<(), ImageError> {
    let inner = Arc::clone(inner);
    let promise = Promise { blob: Some(descriptor.digest), diff_id: Some(diff_id) };
    let media_type = descriptor.media_type.clone();
    blocking(move || {
        let pin = inner.pin(diff_id);
        let workspace = Workspace::create(&inner)?;
        let found = ingest(arrivals, workspace.path(), &inner.limits, promise, &consumed)?;
        inner.publish(&pin, workspace.path(), record(&found, promise.blob, media_type))
    })
    .await
}

fn record(found: &Ingested, blob: Option<Digest>, media_type: String) -> LayerRecord {
    LayerRecord {
        references: 0,
        size: found.contents.size,
        tar_size: found.tar_size,
        blob: blob.map(|digest| CompressedBlob { digest, size: found.blob_size, media_type }),
        known: Vec::new(),
    }
}
