//! One pass from a stream of compressed bytes to an unpacked layer and its two digests.
//!
//! ```text
//! network ─bytes─▶ sha256 (blob) ─▶ decompress ─┬─▶ sha256 (diff id)
//!                  one thread                   └─▶ untar            a thread each
//! ```
//!
//! The stages run side by side and wait for each other through short queues, so memory is bounded whatever the layer.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::unpack::{Contents, unpack};
use super::{UnpackLimits, compression};
use crate::{Digest, ImageError, UnpackError};

/// Large enough that handing a piece on costs nothing, small enough to stay in the cache.
const PIECE: usize = 256 * 1024;
/// Pieces between two stages.
const QUEUE: usize = 8;

/// What arrives. A queue that ends without `End` was given up.
#[derive(Debug)]
pub(crate) enum Arrival {
    Data(Bytes),
    End,
}

/// What is promised of a layer. `None` promises nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Promise {
    pub(crate) blob: Option<Digest>,
    pub(crate) diff_id: Option<Digest>,
}

/// What a layer turned out to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ingested {
    pub(crate) blob_size: u64,
    pub(crate) diff_id: Digest,
    pub(crate) tar_size: u64,
    pub(crate) contents: Contents,
}

/// Unpacks what arrives into `directory`, which exists and is empty, and keeps the promise or fails.
/// `consumed` counts the compressed bytes that went in. Blocks.
pub(crate) fn ingest(
    arrivals: mpsc::Receiver<Arrival>,
    directory: &Path,
    limits: &UnpackLimits,
    promise: Promise,
    consumed: &AtomicU64,
) -> Result<Ingested, ImageError> {
    let (to_untar, for_untar) = sync_channel(QUEUE);
    let (to_hash, for_hash) = sync_channel::<Arc<Vec<u8>>>(QUEUE);
    let (spare, spares) = sync_channel(2 * QUEUE + 2);
    let untar_spare = spare.clone();
    let stop = AtomicBool::new(false);
    let (inflated, hashed, unpacked) = std::thread::scope(|scope| {
        let inflate = scope.spawn(|| {
            let input = Input::new(arrivals, consumed, &stop, promise.blob.is_some());
            inflate(input, limits.bytes, &Outputs { untar: to_untar, hash: to_hash, spares })
        });
        let hash = scope.spawn(move || {
            let mut hasher = Sha256::new();
            for piece in for_hash {
                hasher.update(piece.as_slice());
                recycle(piece, &spare);
            }
            Digest::from_hasher(hasher)
        });
        let unpacked = unpack(Pieces::new(for_untar, untar_spare), directory, limits);
        if unpacked.as_ref().is_err_and(|error| !error.is_about_content()) {
            // No digest would explain it: the rest need not even arrive.
            stop.store(true, Ordering::Relaxed);
        }
        (inflate.join(), hash.join(), unpacked)
    });
    let panicked = |_| ImageError::Task { message: "a thread that unpacks a layer panicked".to_owned() };
    let inflated = inflated.map_err(panicked)?;
    let diff_id = hashed.map_err(panicked)?;
    judge(inflated, diff_id, unpacked, promise)
}

/// The most telling of what may have gone wrong at once: wrong bytes explain every later failure.
fn judge(
    inflated: Inflated,
    diff_id: Digest,
    unpacked: Result<Contents, UnpackError>,
    promise: Promise,
) -> Result<Ingested, ImageError> {
    if inflated.stopped
        && let Err(error) = unpacked
    {
        return Err(error.into());
    }
    if inflated.given_up {
        return Err(ImageError::Cancelled);
    }
    let actual = if inflated.plain { Some(diff_id) } else { inflated.blob };
    if let (Some(expected), Some(actual)) = (promise.blob, actual)
        && expected != actual
    {
        return Err(ImageError::DigestMismatch { what: "layer", expected, actual });
    }
    if let Some(error) = inflated.error {
        return Err(error);
    }
    let contents = unpacked?;
    if let Some(expected) = promise.diff_id
        && expected != diff_id
    {
        return Err(ImageError::DigestMismatch { what: "diff id", expected, actual: diff_id });
    }
    Ok(Ingested { blob_size: inflated.blob_size, diff_id, tar_size: inflated.tar_size, contents })
}

struct Inflated {
    /// `None` where nobody asked, or the stream was not compressed: then it is the diff id.
    blob: Option<Digest>,
    plain: bool,
    blob_size: u64,
    tar_size: u64,
    given_up: bool,
    stopped: bool,
    error: Option<ImageError>,
}

struct Outputs {
    untar: SyncSender<Arc<Vec<u8>>>,
    hash: SyncSender<Arc<Vec<u8>>>,
    spares: Receiver<Vec<u8>>,
}

fn inflate(mut input: Input<'_>, limit: u64, outputs: &Outputs) -> Inflated {
    let mut tar_size = 0;
    let mut plain = false;
    let outcome = input.prime().and_then(|()| compression::open(&mut input)).and_then(|mut decoder| {
        plain = decoder.is_plain();
        if let compression::Decoder::Plain(input) = &mut decoder {
            // The diff id is the blob's digest as well: hash once.
            input.hasher = None;
        }
        pour(&mut decoder, plain, limit, outputs, &mut tar_size)
    });
    // Whatever stopped the unpacking, the rest of the blob still tells whether it was the right one.
    while let Ok(buffer) = input.fill_buf() {
        let count = buffer.len();
        if count == 0 {
            break;
        }
        input.consume(count);
    }
    Inflated {
        blob: input.hasher.take().map(Digest::from_hasher),
        plain,
        blob_size: input.consumed,
        given_up: input.given_up,
        stopped: input.stop.load(Ordering::Relaxed),
        tar_size,
        error: outcome.err(),
    }
}

fn pour(
    decoder: &mut compression::Decoder<'_, Input<'_>>,
    to_the_end: bool,
    limit: u64,
    outputs: &Outputs,
    tar_size: &mut u64,
) -> Result<(), ImageError> {
    loop {
        let mut piece = outputs.spares.try_recv().unwrap_or_default();
        piece.clear();
        piece.reserve_exact(PIECE);
        let read = decoder.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        read.map_err(|error| ImageError::Unpack(UnpackError::Decompress(error)))?;
        if piece.is_empty() {
            return Ok(());
        }
        *tar_size += piece.len() as u64;
        if *tar_size > limit {
            return Err(UnpackError::TooLarge { limit, unit: "bytes" }.into());
        }
        let piece = Arc::new(piece);
        let hashing = outputs.hash.send(Arc::clone(&piece)).is_ok();
        // The untarring side reports for itself why it has stopped.
        if outputs.untar.send(piece).is_err() && !(to_the_end && hashing) {
            return Ok(());
        }
    }
}

/// Hands a buffer back to whoever fills them, once its last user is done.
fn recycle(piece: Arc<Vec<u8>>, spare: &SyncSender<Vec<u8>>) {
    if let Some(buffer) = Arc::into_inner(piece) {
        let _ = spare.try_send(buffer);
    }
}

/// The compressed stream, hashed as it is read.
pub(crate) struct Input<'a> {
    arrivals: mpsc::Receiver<Arrival>,
    current: Bytes,
    hasher: Option<Sha256>,
    consumed: u64,
    total: &'a AtomicU64,
    stop: &'a AtomicBool,
    given_up: bool,
    ended: bool,
}

impl<'a> Input<'a> {
    pub(crate) fn new(
        arrivals: mpsc::Receiver<Arrival>,
        total: &'a AtomicU64,
        stop: &'a AtomicBool,
        hash: bool,
    ) -> Input<'a> {
        Input {
            arrivals,
            current: Bytes::new(),
            hasher: hash.then(Sha256::new),
            consumed: 0,
            total,
            stop,
            given_up: false,
            ended: false,
        }
    }

    /// Whether the sending side vanished before the end.
    pub(crate) fn given_up(&self) -> bool {
        self.given_up
    }

    /// Waits for as many bytes as tell the compression, however small the pieces they arrive in.
    pub(crate) fn prime(&mut self) -> Result<(), ImageError> {
        let mut start = Vec::new();
        while start.len() < compression::TELLING {
            self.current = Bytes::new();
            let next = self.fill_buf().map_err(|error| ImageError::Unpack(UnpackError::Decompress(error)))?;
            if next.is_empty() {
                break;
            }
            start.extend_from_slice(next);
        }
        self.current = start.into();
        Ok(())
    }
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.ended {
            if self.stop.load(Ordering::Relaxed) {
                self.ended = true;
                break;
            }
            match self.arrivals.blocking_recv() {
                Some(Arrival::Data(bytes)) => {
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&bytes);
                    }
                    self.consumed += bytes.len() as u64;
                    self.total.store(self.consumed, Ordering::Relaxed);
                    self.current = bytes;
                }
                Some(Arrival::End) => self.ended = true,
                None => {
                    self.given_up = true;
                    self.ended = true;
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, count: usize) {
        let _ = self.current.split_to(count);
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// The decompressed stream on the untarring side.
struct Pieces {
    queue: Receiver<Arc<Vec<u8>>>,
    spare: SyncSender<Vec<u8>>,
    current: Option<Arc<Vec<u8>>>,
    at: usize,
}

impl Pieces {
    fn new(queue: Receiver<Arc<Vec<u8>>>, spare: SyncSender<Vec<u8>>) -> Pieces {
        Pieces { queue, spare, current: None, at: 0 }
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.as_ref().is_none_or(|piece| self.at == piece.len()) {
            if let Some(done) = self.current.take() {
                recycle(done, &self.spare);
            }
            self.at = 0;
            self.current = self.queue.recv().ok();
        }
        Ok(self.current.as_ref().map_or(&[], |piece| &piece[self.at..]))
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// A directory under `ingest/` that is discarded unless it was published.
pub(crate) struct Workspace {
    inner: Arc<crate::store::Inner>,
    path: PathBuf,
}

impl Workspace {
    pub(crate) fn create(inner: &Arc<crate::store::Inner>) -> Result<Workspace, ImageError> {
        let path = inner.paths.fresh_ingest()?;
        std::fs::create_dir(&path).map_err(ImageError::file("create", &path))?;
        Ok(Workspace { inner: Arc::clone(inner), path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = self.inner.discard(&self.path) {
            // The next open clears it away.
            tracing::warn!(error = error.sentence(), "unfinished layer cannot be removed");
        }
    }
}
