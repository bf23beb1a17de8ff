//! The archive's own tar: each file is sniffed, and unpacked or kept.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Content;
use crate::layer::tar::{Kind, Reader, Tap, clean_text, is_tar};
use crate::layer::{self, Arrival, Promise, Workspace, ingest};
use crate::store::{Inner, LayerRecord, MAX_BLOB};
use crate::{Digest, ImageError, LoadEvent, Progress, UnpackError};

/// Documents of one archive are held in memory.
const MAX_DOCUMENTS: u64 = 64 << 20;
/// Enough to tell a tar, and every compression.
const SNIFF: usize = 512;
/// Pieces on their way into a layer.
const QUEUE: usize = 16;

struct NoTap;

impl Tap for NoTap {
    fn raw(&mut self, _bytes: &[u8]) -> Result<(), UnpackError> {
        Ok(())
    }
}

/// Reads a whole archive. Blocks.
pub(super) fn read(
    inner: &Arc<Inner>,
    arrivals: mpsc::Receiver<Arrival>,
    events: &mpsc::Sender<LoadEvent>,
) -> Result<Content, ImageError> {
    let (consumed, stop) = Default::default();
    let mut input = layer::Input::new(arrivals, &consumed, &stop, false);
    let outcome = input.prime().and_then(|()| read_input(inner, &mut input, events));
    if input.given_up() { Err(ImageError::Cancelled) } else { outcome }
}

fn read_input(
    inner: &Arc<Inner>,
    input: &mut layer::Input<'_>,
    events: &mpsc::Sender<LoadEvent>,
) -> Result<Content, ImageError> {
    let decoder = layer::decompress(input)?;
    let mut reader = Reader::new(BufReader::with_capacity(256 * 1024, decoder));
    let mut content = Content::default();
    let mut documents = 0;
    let broken = |error: UnpackError| match error {
        UnpackError::Header(what) => ImageError::Archive { what: what.to_owned() },
        UnpackError::Truncated => ImageError::Archive { what: "unexpected EOF".to_owned() },
        error => error.into(),
    };
    while let Some(entry) = reader.next(&mut NoTap).map_err(broken)? {
        let escape = || ImageError::Archive { what: "a name that leads outside".to_owned() };
        let path = clean_text(&entry.path).ok_or_else(escape)?;
        match entry.kind {
            Kind::HardLink | Kind::Symlink => {
                let link = String::from_utf8_lossy(&entry.link).into_owned();
                let target = match (entry.kind, path.rsplit_once('/')) {
                    (Kind::Symlink, Some((directory, _))) => format!("{directory}/{link}"),
                    _ => link,
                };
                content.links.insert(path, clean_text(target.as_bytes()).ok_or_else(escape)?);
            }
            Kind::File => {
                let start = sniff(&mut reader, entry.stored).map_err(broken)?;
                if is_tar(&start) || layer::is_compressed(&start) {
                    let unpacked = unpack(inner, &mut reader, &path, start, entry.stored, events)?;
                    content.layers.insert(path, unpacked.0);
                    content.pins.entry(unpacked.0).or_insert((unpacked.1, unpacked.2));
                    continue;
                }
                documents += entry.stored;
                if entry.stored > MAX_BLOB || documents > MAX_DOCUMENTS {
                    return Err(ImageError::Archive {
                        what: format!("`{path}` is neither a layer nor a document"),
                    });
                }
                let mut document = start;
                reader
                    .rest(|bytes| {
                        document.extend_from_slice(bytes);
                        Ok(())
                    })
                    .map_err(broken)?;
                content.documents.insert(path, document);
            }
            _ => {}
        }
    }
    Ok(content)
}

fn sniff<R: BufRead>(reader: &mut Reader<R>, stored: u64) -> Result<Vec<u8>, UnpackError> {
    let mut start = Vec::with_capacity(SNIFF);
    reader.content(stored.min(SNIFF as u64), |bytes| {
        start.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(start)
}

/// Unpacks the current entry as a layer. One named by its digest must have it.
fn unpack<R: BufRead>(
    inner: &Arc<Inner>,
    reader: &mut Reader<R>,
    path: &str,
    start: Vec<u8>,
    stored: u64,
    events: &mpsc::Sender<LoadEvent>,
) -> Result<(Digest, crate::store::Pin, LayerRecord), ImageError> {
    let blob = path.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok());
    let workspace = Workspace::create(inner)?;
    let (sink, arrivals) = mpsc::channel(QUEUE);
    let consumed = AtomicU64::new(0);
    let promise = Promise { blob, diff_id: None };
    let id = path.rsplit('/').find(|part| *part != "layer.tar").unwrap_or(path);
    let id = id.get(..12).unwrap_or(id).to_owned();
    let found = std::thread::scope(|scope| {
        let unpacking = scope.spawn(|| ingest(arrivals, workspace.path(), &inner.limits, promise, &consumed));
        let mut sent = start.len() as u64;
        let mut shown = 0;
        let mut open = sink.blocking_send(Arrival::Data(start.into())).is_ok();
        let fed = reader.rest(|bytes| {
            open = open && sink.blocking_send(Arrival::Data(Bytes::copy_from_slice(bytes))).is_ok();
            sent += bytes.len() as u64;
            if sent - shown > stored / 50 {
                shown = sent;
                let progress = Progress { current: sent, total: stored };
                // A client that does not read misses a step, no more.
                let _ = events.try_send(LoadEvent::Layer { id: id.clone(), progress });
            }
            Ok(())
        });
        if fed.is_ok() {
            let _ = sink.blocking_send(Arrival::End);
        }
        drop(sink);
        let unpacked =
            unpacking.join().map_err(|_| ImageError::Task { message: "unpacking panicked".to_owned() })?;
        match (fed, unpacked) {
            (Err(error), Err(ImageError::Cancelled)) => Err(ImageError::Unpack(error)),
            (_, unpacked) => unpacked,
        }
    })?;
    let record =
        LayerRecord { size: found.contents.size, tar_size: found.tar_size, ..LayerRecord::default() };
    let pin = inner.pin(found.diff_id);
    inner.publish(&pin, workspace.path(), record.clone())?;
    Ok((found.diff_id, pin, record))
}
