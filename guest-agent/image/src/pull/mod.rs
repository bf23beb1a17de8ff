//! Pulling an image: from a reference to an image in the store, with a stream of events on the way.
//!
//! ```text
//! reference ─▶ index ─▶ manifest ─▶ config ─▶ layers side by side ─▶ one commit
//! ```
//! Until the commit the pull has no effect that anyone sees; if it fails, its layers go again.

mod flight;
mod layers;

use std::sync::Arc;

use tokio::sync::mpsc;

pub(crate) use flight::Flight;

use crate::config::ImageConfig;
use crate::manifest::{self, Descriptor, Document, Manifest};
use crate::registry::{self, Credentials, RawManifest, RegistryConfig, Session};
use crate::store::{CompressedBlob, Inner, KnownBlob, LayerRecord, NewImage};
use crate::{Digest, ImageError, ImageId, Platform, PullEvent, Pulled, Reference, RegistryError, Store};

/// An index may name indexes; nobody nests them deeper.
const MAX_DEPTH: usize = 3;

/// What to pull, and how.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// Without tag and digest it means the tag `latest`.
    pub reference: Reference,
    /// `None` takes what fits this machine.
    pub platform: Option<Platform>,
    /// Credentials for the reference's registry.
    pub auth: Option<Credentials>,
    /// How registries are reached.
    pub registries: RegistryConfig,
}

impl Store {
    /// Pulls an image. The last event is `Done` or `Error`; dropping the receiver gives the pull up.
    ///
    /// Call it within a tokio runtime.
    pub fn pull(&self, request: PullRequest) -> mpsc::Receiver<PullEvent> {
        let (events, receiver) = mpsc::channel(64);
        let inner = Arc::clone(self.inner());
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = Pull::run(inner, request, events.clone()) => outcome,
                () = events.closed() => Err(ImageError::Cancelled),
            };
            let last = outcome.map_or_else(PullEvent::Error, PullEvent::Done);
            // Nobody listens any more if this fails.
            let _ = events.send(last).await;
        });
        receiver
    }
}

struct Pull {
    inner: Arc<Inner>,
    events: mpsc::Sender<PullEvent>,
    reference: Reference,
    session: Arc<Session>,
}

/// An image as its registry describes it.
struct Described {
    indexes: Vec<Vec<u8>>,
    raw: Vec<u8>,
    manifest: Manifest,
}

impl Pull {
    async fn run(
        inner: Arc<Inner>,
        request: PullRequest,
        events: mpsc::Sender<PullEvent>,
    ) -> Result<Pulled, ImageError> {
        let reference = request.reference.or_latest();
        let settings = Arc::new(request.registries);
        let (session, top) = find(&reference, request.auth.as_ref(), &settings)
            .await
            .map_err(|error| translate(error, &reference))?;
        let pull = Pull { inner, events, session: Arc::new(session), reference };
        let id = pull.reference.digest().map(|digest| digest.to_string());
        let id = id.or(pull.reference.tag().map(str::to_owned));
        pull.say(id, format!("Pulling from {}", pull.reference.path())).await;

        let digest = top.digest;
        let wanted = request.platform.clone().unwrap_or_else(Platform::host);
        let described = pull.describe(top, &wanted).await?;
        let config = &described.manifest.config;
        let raw_config = pull.session.blob("config", config).await?;
        let id = ImageId(config.digest);
        let config = ImageConfig::parse(&raw_config)?;
        pull.check(&config, &described.manifest, request.platform.as_ref())?;

        let pinned = pull.layers(&config, &described.manifest.layers, settings.concurrent_downloads).await?;
        let by_digest = pull.reference.with_digest(digest);
        let references = match pull.reference.digest() {
            Some(_) => vec![by_digest],
            None => vec![pull.reference.clone(), by_digest],
        };
        let image = NewImage {
            id,
            config,
            raw_config,
            manifest: Some(described.raw),
            indexes: described.indexes,
            parent: None,
            references,
            layers: pull.places(pinned.records()?, &described.manifest.layers),
        };
        let inner = Arc::clone(&pull.inner);
        // The pins live until the rows that take their place are written.
        let newer = blocking(move || {
            let newer = inner.add(image);
            drop(pinned);
            newer
        })
        .await?;
        pull.say(None, format!("Digest: {digest}")).await;
        let what = if newer { "Downloaded newer image" } else { "Image is up to date" };
        pull.say(None, format!("Status: {what} for {}", pull.reference.familiar())).await;
        Ok(Pulled { image: id, digest, reference: pull.reference.clone(), newer })
    }

    /// Notes with each layer where it was found.
    fn places(
        &self,
        mut records: Vec<(Digest, LayerRecord)>,
        descriptors: &[Descriptor],
    ) -> Vec<(Digest, LayerRecord)> {
        let repository = self.reference.name();
        for ((_, record), descriptor) in records.iter_mut().zip(descriptors) {
            let Descriptor { digest, size, media_type, .. } = descriptor.clone();
            let blob = CompressedBlob { digest, size, media_type };
            record.remember(&KnownBlob { repository: repository.clone(), blob });
        }
        records
    }

    async fn say(&self, id: Option<String>, status: String) {
        // A listener that is gone ends the pull elsewhere.
        let _ = self.events.send(PullEvent::Status { id, status }).await;
    }

    /// Goes from an index to the manifest of the image that fits.
    async fn describe(&self, top: RawManifest, platform: &Platform) -> Result<Described, ImageError> {
        let mut indexes = Vec::new();
        let mut current = top;
        loop {
            match Document::parse(&current.raw, current.media_type.as_deref())? {
                Document::Manifest(manifest) => return Ok(Described { indexes, raw: current.raw, manifest }),
                Document::Index(_) if indexes.len() >= MAX_DEPTH => {
                    return Err(ImageError::corrupt(format!(
                        "indexes are nested more than {MAX_DEPTH} deep"
                    )));
                }
                Document::Index(manifests) => {
                    let chosen: &Descriptor = manifest::select(&manifests, platform)
                        .ok_or_else(|| ImageError::NoMatchingManifest { platform: platform.clone() })?;
                    indexes.push(current.raw);
                    let next = self.session.manifest(&chosen.digest.to_string(), Some(chosen.digest)).await;
                    current = next.map_err(|error| translate(error, &self.reference))?;
                    if current.raw.len() as u64 != chosen.size {
                        return Err(ImageError::corrupt(format!(
                            "manifest {} has {} bytes, its index says {}",
                            chosen.digest,
                            current.raw.len(),
                            chosen.size
                        )));
                    }
                }
            }
        }
    }

    fn check(
        &self,
        config: &ImageConfig,
        manifest: &Manifest,
        wanted: Option<&Platform>,
    ) -> Result<(), ImageError> {
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(ImageError::corrupt(format!("manifest has {layers} layers, config has {diff_ids}")));
        }
        let actual = config.platform();
        if actual.os != "linux" {
            let what = format!("image operating system \"{}\" cannot be used on this platform", actual.os);
            return Err(ImageError::Unsupported { what });
        }
        match wanted {
            Some(wanted) if wanted.distance(&actual).is_none() => Err(ImageError::PlatformMismatch {
                reference: self.reference.familiar(),
                wanted: Box::new(wanted.clone()),
                actual: Box::new(actual),
            }),
            _ => Ok(()),
        }
    }
}

/// The first registry that has the reference: mirrors, then the registry itself, then the same by plain HTTP.
pub(crate) async fn find(
    reference: &Reference,
    credentials: Option<&Credentials>,
    settings: &Arc<RegistryConfig>,
) -> Result<(Session, RawManifest), ImageError> {
    let digest = reference.digest();
    let name = digest.map(|digest| digest.to_string());
    let name = name.as_deref().or(reference.tag()).unwrap_or_default();
    let mut sessions = registry::sessions(reference, credentials, settings).into_iter().peekable();
    let mirrored = !settings.mirrors.is_empty() && reference.domain() == "docker.io";
    while let Some(session) = sessions.next() {
        match session.manifest(name, digest).await {
            Ok(manifest) => return Ok((session, manifest)),
            Err(error) if sessions.peek().is_some() => match &error {
                ImageError::Registry(problem) if mirrored || registry::is_about_the_way(problem) => {
                    tracing::debug!(%reference, error = error.sentence(), "next registry is tried");
                }
                _ => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
    Err(ImageError::InvalidRequest { message: format!("no registry for {}", reference.familiar()) })
}

/// Gives a registry's answer dockerd's words.
pub(crate) fn translate(error: ImageError, reference: &Reference) -> ImageError {
    let ImageError::Registry(source) = error else { return error };
    let name = reference.familiar_name();
    match &source {
        RegistryError::Answer { code, .. } if code == "DENIED" => {
            ImageError::PullAccessDenied { name, source }
        }
        RegistryError::Answer { code, .. } if code == "NAME_UNKNOWN" => {
            ImageError::RepositoryNotFound { name, source }
        }
        RegistryError::Answer { code, .. } if code == "MANIFEST_UNKNOWN" => {
            ImageError::ManifestNotFound { reference: reference.familiar(), source }
        }
        RegistryError::Status { status: 404, .. } => {
            ImageError::ManifestNotFound { reference: reference.familiar(), source }
        }
        _ => ImageError::Registry(source),
    }
}

/// Runs file work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(ImageError::Task { message: error.to_string() }),
    }
}
