//! Pushing an image: its layers side by side, then its config, and last the manifest that makes it visible.
//!
//! Layers are kept unpacked, and compressing them again gives other bytes than those they were pulled as. So a registry is
//! first asked for the forms that are known; only what it has in none of them is compressed and sent.

mod layer;
mod manifest;

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use crate::pull::blocking;
use crate::registry::{self, Credentials, RegistryConfig, Session};
use crate::store::{CompressedBlob, Image, Inner, Lease};
use crate::{Digest, ImageError, Platform, Progress, Reference, Store};

/// What to push, and how.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// Without a tag it means every tag of the repository.
    pub reference: Reference,
    /// The platform that the image must be for.
    pub platform: Option<Platform>,
    /// Credentials for the reference's registry.
    pub auth: Option<Credentials>,
    /// How registries are reached.
    pub registries: RegistryConfig,
    /// Layers that are sent at the same time; dockerd's `max-concurrent-uploads`.
    pub concurrent_uploads: usize,
}

/// One step of a push.
#[derive(Debug)]
pub enum PushEvent {
    /// A plain line, or a layer's new stage.
    Status {
        /// The first twelve digits of the layer's diff id, if the line is about one.
        id: Option<String>,
        /// The line.
        status: String,
    },
    /// A layer's bytes move.
    Layer {
        /// The first twelve digits of its diff id.
        id: String,
        /// How many of its tar's bytes.
        progress: Progress,
    },
    /// One tag is in place.
    Pushed {
        /// The tag.
        tag: String,
        /// The manifest's digest.
        digest: Digest,
        /// The manifest's bytes.
        size: usize,
    },
    /// The last event of a push that succeeded.
    Done,
    /// The last event of a push that failed.
    Error(ImageError),
}

impl Store {
    /// Pushes an image. The last event is `Done` or `Error`; dropping the receiver gives the push up.
    ///
    /// Call it within a tokio runtime.
    pub fn push(&self, request: PushRequest) -> mpsc::Receiver<PushEvent> {
        let (events, receiver) = mpsc::channel(64);
        let store = self.clone();
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = run(store, request, events.clone()) => outcome,
                () = events.closed() => Err(ImageError::Cancelled),
            };
            let last = outcome.map_or_else(PushEvent::Error, |()| PushEvent::Done);
            // Nobody listens any more if this fails.
            let _ = events.send(last).await;
        });
        receiver
    }
}

struct Push {
    inner: Arc<Inner>,
    events: mpsc::Sender<PushEvent>,
    session: Session,
    /// The repository, without tag.
    repository: Reference,
    side_by_side: usize,
}

/// An image that is to get a tag in the registry.
struct Tagged {
    tag: String,
    image: Arc<Image>,
    /// Keeps the layers while they are read.
    _lease: Lease,
}

async fn run(store: Store, request: PushRequest, events: mpsc::Sender<PushEvent>) -> Result<(), ImageError> {
    let PushRequest { reference, platform, auth, registries, concurrent_uploads } = request;
    let status = format!("The push refers to repository [{}]", reference.name());
    let _ = events.send(PushEvent::Status { id: None, status }).await;
    let wanted = chosen(&store, &reference, platform.as_ref())?;
    let settings = Arc::new(registries);
    let session = registry::reachable(registry::direct(&reference, auth.as_ref(), &settings)).await?;
    let push = Push {
        inner: Arc::clone(store.inner()),
        events,
        session,
        repository: reference,
        side_by_side: concurrent_uploads.max(1),
    };
    for tagged in &wanted {
        push.image(tagged).await?;
    }
    Ok(())
}

/// The images that the reference means.
fn chosen(
    store: &Store,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Vec<Tagged>, ImageError> {
    let refuse = |message: String| ImageError::InvalidRequest { message };
    if reference.digest().is_some() {
        return Err(refuse("cannot push a digest reference".to_owned()));
    }
    let index = store.inner().index();
    let mut found = Vec::new();
    for (known, id) in index.references.iter().filter(|(known, _)| known.name() == reference.name()) {
        let Some(tag) = known.tag().filter(|_| known.digest().is_none()) else { continue };
        if reference.tag().is_some_and(|wanted| wanted != tag) {
            continue;
        }
        let Some(image) = index.image(id) else { continue };
        store.require_platform(&known.familiar(), platform)?;
        found.push(Tagged { tag: tag.to_owned(), image: Arc::clone(image), _lease: store.hold(id)? });
    }
    if found.is_empty() {
        let familiar = reference.familiar_name();
        let message = match reference.tag() {
            Some(tag) if index.references.keys().any(|known| known.name() == reference.name()) => {
                format!("tag does not exist: {familiar}:{tag}")
            }
            _ => format!("An image does not exist locally with the tag: {familiar}"),
        };
        return Err(ImageError::NotTagged { message });
    }
    Ok(found)
}

impl Push {
    async fn say(&self, id: Option<String>, status: impl Into<String>) {
        // A listener that is gone ends the push elsewhere.
        let _ = self.events.send(PushEvent::Status { id, status: status.into() }).await;
    }

    async fn image(&self, tagged: &Tagged) -> Result<(), ImageError> {
        let image = &tagged.image;
        let mut unique: Vec<Digest> = Vec::new();
        for layer in image.layers.iter().rev() {
            if !unique.contains(&layer.diff_id) {
                self.say(Some(layer.diff_id.short()), "Preparing").await;
                unique.push(layer.diff_id);
            }
        }
        let pushed: Vec<(Digest, CompressedBlob)> = futures_util::stream::iter(unique)
            .map(|diff_id| async move { self.layer(diff_id).await.map(|blob| (diff_id, blob)) })
            .buffer_unordered(self.side_by_side)
            .try_collect()
            .await?;
        self.session.put_blob(&image.id.0, image.raw_config.clone()).await?;
        let manifest = manifest::of(&self.inner, image, &pushed)?;
        self.session.put_manifest(&tagged.tag, manifest.media_type, manifest.raw.clone()).await?;
        let size = manifest.raw.len();
        let Tagged { tag, .. } = tagged;
        self.say(None, format!("{tag}: digest: {} size: {size}", manifest.digest)).await;
        let (inner, id) = (Arc::clone(&self.inner), image.id);
        let by_digest = self.repository.with_digest(manifest.digest);
        blocking(move || inner.refer(by_digest, id)).await?;
        let pushed = PushEvent::Pushed { tag: tag.clone(), digest: manifest.digest, size };
        let _ = self.events.send(pushed).await;
        Ok(())
    }
}
