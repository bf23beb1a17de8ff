//! One layer on its way into a registry: asked for, mounted, or compressed and sent.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{Push, PushEvent, blocking};
use crate::layer::rebuild;
use crate::manifest::DOCKER_LAYER;
use crate::registry::{Begun, CHUNK};
use crate::store::{CompressedBlob, Inner, KnownBlob, LayerRecord, read_layer};
use crate::{Digest, ImageError, Progress};

/// Half the time of the usual level for a few percent of the bytes.
const LEVEL: u32 = 4;
/// Chunks between compressing and sending.
const QUEUE: usize = 1;
/// Forms and places of a layer that a registry is asked for.
const MAX_QUESTIONS: usize = 4;

impl Push {
    /// Sees that the repository has the layer, and tells in which form.
    pub(super) async fn layer(&self, diff_id: Digest) -> Result<CompressedBlob, ImageError> {
        let id = Some(diff_id.short());
        let record = read_layer(&self.inner, &diff_id)?;
        let name = &self.repository.name();
        for blob in forms(&record, name) {
            if self.session.blob_size(&blob.digest).await? == Some(blob.size) {
                self.say(id, "Layer already exists").await;
                self.remember(diff_id, &blob).await?;
                return Ok(blob);
            }
        }
        let mut location = None;
        for place in elsewhere(&record, name, self.repository.domain()) {
            let from = place.repository.split_once('/').map_or("", |(_, path)| path);
            match self.session.begin_upload(Some((&place.blob.digest, from))).await? {
                Begun::Mounted => {
                    self.say(id, format!("Mounted from {from}")).await;
                    self.remember(diff_id, &place.blob).await?;
                    return Ok(place.blob.clone());
                }
                Begun::Upload(address) => location = Some(address),
            }
        }
        let blob = self.send(diff_id, record.tar_size, location).await?;
        self.remember(diff_id, &blob).await?;
        self.say(id, "Pushed").await;
        Ok(blob)
    }

    async fn remember(&self, diff_id: Digest, blob: &CompressedBlob) -> Result<(), ImageError> {
        let inner = Arc::clone(&self.inner);
        let place = KnownBlob { repository: self.repository.name(), blob: blob.clone() };
        blocking(move || inner.remember(diff_id, &place)).await
    }

    async fn send(
        &self,
        diff_id: Digest,
        total: u64,
        location: Option<String>,
    ) -> Result<CompressedBlob, ImageError> {
        let mut location = match location {
            Some(location) => location,
            None => match self.session.begin_upload(None).await? {
                Begun::Upload(location) => location,
                Begun::Mounted => return Err(ImageError::corrupt("registry mounted what was not asked for")),
            },
        };
        let read = Arc::new(AtomicU64::new(0));
        let (sink, mut chunks) = mpsc::channel::<Bytes>(QUEUE);
        let compressing = tokio::spawn(blocking({
            let (inner, read) = (Arc::clone(&self.inner), Arc::clone(&read));
            move || compress(&inner, diff_id, sink, &read)
        }));
        let mut size = 0;
        while let Some(chunk) = chunks.recv().await {
            let progress = Progress { current: read.load(Ordering::Relaxed), total };
            let _ = self.events.send(PushEvent::Layer { id: diff_id.short(), progress }).await;
            let length = chunk.len() as u64;
            location = self.session.upload_chunk(location, size, chunk).await?;
            size += length;
        }
        let compressed = compressing.await;
        let digest = compressed.map_err(|error| ImageError::Task { message: error.to_string() }).flatten()?;
        self.session.finish_upload(&location, &digest, Bytes::new()).await?;
        Ok(CompressedBlob { digest, size, media_type: format!("{DOCKER_LAYER}.gzip") })
    }
}

/// The forms that the repository may have, the likeliest first.
fn forms(record: &LayerRecord, name: &str) -> Vec<CompressedBlob> {
    let mut forms: Vec<CompressedBlob> = Vec::new();
    let own = record.known.iter().rev().filter(|place| place.repository == name);
    let others = record.known.iter().rev().filter(|place| place.repository != name);
    for blob in own.chain(others).map(|place| &place.blob).chain(&record.blob) {
        if !forms.iter().any(|known| known.digest == blob.digest) {
            forms.push(blob.clone());
        }
    }
    forms.truncate(MAX_QUESTIONS);
    forms
}

/// Other repositories of the same registry that have the layer.
fn elsewhere<'a>(
    record: &'a LayerRecord,
    name: &'a str,
    domain: &'a str,
) -> impl Iterator<Item = &'a KnownBlob> {
    let here = move |place: &&KnownBlob| {
        place.repository != name && place.repository.split_once('/').is_some_and(|(host, _)| host == domain)
    };
    record.known.iter().rev().filter(here).take(MAX_QUESTIONS)
}

/// Writes the layer's gzip form into `sink`, and tells its digest. The same layer gives the same bytes every time.
fn compress(
    inner: &Inner,
    diff_id: Digest,
    sink: mpsc::Sender<Bytes>,
    read: &AtomicU64,
) -> Result<Digest, ImageError> {
    let failed = |source| ImageError::File { doing: "read", path: inner.paths.layer(&diff_id), source };
    let chunks = Chunks { sink, chunk: Vec::with_capacity(CHUNK), hasher: Sha256::new() };
    let encoder = GzEncoder::new(chunks, Compression::new(LEVEL));
    let mut tar = Tar { encoder, hasher: Sha256::new(), read };
    rebuild(&inner.paths.layer(&diff_id), &mut tar).map_err(failed)?;
    let Tar { encoder, hasher, .. } = tar;
    let actual = Digest::from_hasher(hasher);
    if actual != diff_id {
        return Err(ImageError::DigestMismatch { what: "layer on disk", expected: diff_id, actual });
    }
    let mut chunks = encoder.finish().map_err(failed)?;
    chunks.hand_over().map_err(failed)?;
    Ok(Digest::from_hasher(chunks.hasher))
}

/// The tar, counted and checked on its way into the compressor.
struct Tar<'a> {
    encoder: GzEncoder<Chunks>,
    hasher: Sha256,
    read: &'a AtomicU64,
}

impl Write for Tar<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.encoder.write_all(bytes)?;
        self.hasher.update(bytes);
        self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The compressed bytes, hashed and handed over a chunk at a time.
struct Chunks {
    sink: mpsc::Sender<Bytes>,
    chunk: Vec<u8>,
    hasher: Sha256,
}

impl Chunks {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.sink.blocking_send(chunk.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        self.hasher.update(&bytes[..count]);
        if self.chunk.len() == CHUNK {
            self.hand_over()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
