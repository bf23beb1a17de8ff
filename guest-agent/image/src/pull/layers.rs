//! All layers of one image: pinned first, then fetched side by side.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::{mpsc, watch};

use super::Pull;
use super::flight::{self, State};
use crate::config::ImageConfig;
use crate::manifest::Descriptor;
use crate::store::{LayerRecord, Pin};
use crate::{Digest, ImageError, LayerStage, PullEvent};

/// Clients redraw a line at most so often.
const REDRAW: Duration = Duration::from_millis(100);

/// The layers of one image, in place and kept there.
pub(crate) struct Pinned {
    pub(crate) pins: Vec<Pin>,
}

impl Pinned {
    /// What is known of each layer, lowest first.
    pub(crate) fn records(&self) -> Result<Vec<(Digest, LayerRecord)>, ImageError> {
        self.pins
            .iter()
            .map(|pin| {
                let record = pin.record();
                let record = record
                    .ok_or_else(|| ImageError::corrupt(format!("layer {} is missing", pin.diff_id())))?;
                Ok((pin.diff_id(), record))
            })
            .collect()
    }
}

impl Pull {
    /// Brings the layers that are not there.
    pub(super) async fn layers(
        &self,
        config: &ImageConfig,
        descriptors: &[Descriptor],
        side_by_side: usize,
    ) -> Result<Pinned, ImageError> {
        let diff_ids = &config.rootfs.diff_ids;
        let pins: Vec<Pin> = diff_ids.iter().map(|diff_id| self.inner.pin(*diff_id)).collect();
        let mut wanted = Vec::new();
        let mut seen = HashSet::new();
        for (pin, descriptor) in pins.iter().zip(descriptors) {
            // Docker's clients know layers by their compressed digest, and count each once.
            if !seen.insert((descriptor.digest, pin.diff_id())) {
                continue;
            }
            if pin.record().is_some() {
                self.show(descriptor, LayerStage::AlreadyExists).await;
            } else {
                self.show(descriptor, LayerStage::PullingFsLayer).await;
                wanted.push((descriptor.clone(), pin.diff_id()));
            }
        }
        for (descriptor, _) in wanted.iter().skip(side_by_side.max(1)) {
            self.show(descriptor, LayerStage::Waiting).await;
        }
        futures_util::stream::iter(wanted)
            .map(|(descriptor, diff_id)| async move { self.layer(&descriptor, diff_id).await })
            .buffer_unordered(side_by_side.max(1))
            .try_collect::<()>()
            .await?;
        Ok(Pinned { pins })
    }

    async fn show(&self, descriptor: &Descriptor, stage: LayerStage) {
        let _ = self.events.send(PullEvent::Layer { id: descriptor.digest.short(), stage }).await;
    }

    async fn layer(&self, descriptor: &Descriptor, diff_id: Digest) -> Result<(), ImageError> {
        loop {
            let (watcher, own) = flight::join(&self.inner, &self.session, descriptor, diff_id);
            match follow(watcher, &self.events, &descriptor.digest.short()).await {
                Ok(()) => {
                    self.show(descriptor, LayerStage::PullComplete).await;
                    return Ok(());
                }
                Err(error) if own => return Err(ImageError::Shared(error)),
                // Another pull's registry, credentials or patience failed: try with one's own.
                Err(_) => {}
            }
        }
    }
}

/// Turns the states of a flight into events, until it ends.
async fn follow(
    mut watcher: watch::Receiver<State>,
    events: &mpsc::Sender<PullEvent>,
    id: &str,
) -> Result<(), Arc<ImageError>> {
    let show = |stage| {
        let event = PullEvent::Layer { id: id.to_owned(), stage };
        async move { drop(events.send(event).await) }
    };
    let (mut shown, mut drawn) = (None::<LayerStage>, Instant::now());
    loop {
        let state = watcher.borrow_and_update().clone();
        let stage = match state {
            State::Failed(error) => return Err(error),
            State::Landed => None,
            State::Flying(stage) => Some(stage),
        };
        // A state may be overtaken before it was looked at; clients still see every stage.
        for passed in [LayerStage::VerifyingChecksum, LayerStage::DownloadComplete] {
            if shown.is_none_or(|shown| shown < passed) && stage.is_none_or(|stage| stage > passed) {
                show(passed).await;
                shown = Some(passed);
            }
        }
        let Some(stage) = stage else { return Ok(()) };
        if stage != LayerStage::Waiting {
            show(stage).await;
            drawn = Instant::now();
        }
        shown = Some(stage);
        let counting = stage.progress().is_some();
        let moved_on = |state: &State| {
            !counting || !matches!(state, State::Flying(next) if next.label() == stage.label())
        };
        let pause = if counting { REDRAW.saturating_sub(drawn.elapsed()) } else { Duration::ZERO };
        let waited = tokio::time::timeout(pause, watcher.wait_for(moved_on)).await.map(|found| found.is_ok());
        match waited {
            Ok(true) => {}
            Ok(false) => return Err(Arc::new(ImageError::Cancelled)),
            Err(_) => {
                if watcher.changed().await.is_err() {
                    return Err(Arc::new(ImageError::Cancelled));
                }
            }
        }
    }
}
