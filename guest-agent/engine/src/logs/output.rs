//! From one process to many clients: everyone attached gets every byte, at their own pace.
//!
//! A client that reads slowly must not hold up the container, and must not lose bytes either (`docker run
//! image tar c . > archive` is a slow client). What it hasn't read waits in memory up to a limit, then in an
//! unnamed file on the disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::containers::request::{BoxStream, OutputChunk, StdStream};

/// How much of a client's backlog is kept in memory.
const IN_MEMORY: usize = 1 << 20;

/// The clients of one process.
#[derive(Debug)]
pub(crate) struct Hub {
    /// Where backlogs go.
    directory: PathBuf,
    clients: Mutex<Vec<Arc<Spool>>>,
}

impl Hub {
    pub(crate) fn new(directory: &Path) -> Self {
        Hub { directory: directory.to_owned(), clients: Mutex::default() }
    }

    fn clients(&self) -> MutexGuard<'_, Vec<Arc<Spool>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client more. Everything published from now on is in the stream; it ends with the process, or when
    /// [`Ticket::leave`] is called.
    pub(crate) fn join(&self, stdout: bool, stderr: bool) -> (BoxStream<OutputChunk>, Ticket) {
        let spool = Arc::new(Spool {
            stdout,
            stderr,
            directory: self.directory.clone(),
            queue: Mutex::default(),
            ready: Notify::new(),
        });
        self.clients().push(spool.clone());
        let ticket = Ticket(spool.clone());
        let reader = SpoolReader(spool);
        let stream = futures_util::stream::unfold(reader, |reader| async move {
            let chunk = reader.0.next().await?;
            Some((chunk, reader))
        });
        (Box::pin(stream), ticket)
    }

    /// Gives bytes to all clients. Never waits.
    pub(crate) fn publish(&self, stream: StdStream, bytes: &[u8]) {
        let mut clients = self.clients();
        if clients.is_empty() {
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        clients.retain(|client| client.push(OutputChunk { stream, bytes: bytes.clone() }));
    }

    /// The process has ended: all streams end after what they still hold.
    pub(crate) fn end(&self) {
        for client in std::mem::take(&mut *self.clients()) {
            client.end();
        }
    }
}

/// Lets a client leave before the process ends.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Spool>);

impl Ticket {
    /// Ends its stream.
    pub(crate) fn leave(&self) {
        self.0.end();
    }
}

#[derive(Debug)]
struct Spool {
    stdout: bool,
    stderr: bool,
    directory: PathBuf,
    queue: Mutex<Queue>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<OutputChunk>,
    bytes: usize,
    backlog: Option<Backlog>,
    ended: bool,
}

/// Dropping it tells the hub that nobody reads any more.
struct SpoolReader(Arc<Spool>);

impl Drop for SpoolReader {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        *queue = Queue { ended: true, ..Queue::default() };
    }
}

impl Spool {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the client is still there.
    fn push(&self, chunk: OutputChunk) -> bool {
        let wanted = match chunk.stream {
            StdStream::Stdout => self.stdout,
            StdStream::Stderr => self.stderr,
        };
        let mut queue = self.queue();
        if queue.ended {
            return false;
        }
        if !wanted {
            return true;
        }
        if let Err(error) = queue.push(chunk, &self.directory) {
            tracing::warn!("an attached client is cut off, its backlog can't be kept: {error}");
            queue.ended = true;
        }
        drop(queue);
        self.ready.notify_one();
        true
    }

    fn end(&self) {
        self.queue().ended = true;
        self.ready.notify_one();
    }

    async fn next(&self) -> Option<OutputChunk> {
        loop {
            {
                let mut queue = self.queue();
                match queue.pop() {
                    Ok(Some(chunk)) => return Some(chunk),
                    Ok(None) if queue.ended => return None,
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!("an attached client's backlog can't be read: {error}");
                        return None;
                    }
                }
            }
            self.ready.notified().await;
        }
    }
}

impl Queue {
    fn push(&mut self, chunk: OutputChunk, directory: &Path) -> io::Result<()> {
        if self.backlog.is_none() && self.bytes + chunk.bytes.len() > IN_MEMORY {
            self.backlog = Some(Backlog::new(directory)?);
        }
        match &mut self.backlog {
            Some(backlog) => backlog.push(&chunk),
            None => {
                self.bytes += chunk.bytes.len();
                self.chunks.push_back(chunk);
                Ok(())
            }
        }
    }

    fn pop(&mut self) -> io::Result<Option<OutputChunk>> {
        if let Some(chunk) = self.chunks.pop_front() {
            self.bytes -= chunk.bytes.len();
            return Ok(Some(chunk));
        }
        let Some(backlog) = &mut self.backlog else { return Ok(None) };
        let chunk = backlog.pop()?;
        if backlog.read == backlog.written {
            self.backlog = None;
        }
        Ok(chunk)
    }
}

/// Chunks in an unnamed file: a byte for the stream, four for the length, the bytes.
#[derive(Debug)]
struct Backlog {
    file: File,
    read: u64,
    written: u64,
}

impl Backlog {
    fn new(directory: &Path) -> io::Result<Backlog> {
        let flags = i32::try_from(rustix::fs::OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
        let file = File::options().read(true).write(true).custom_flags(flags).open(directory)?;
        Ok(Backlog { file, read: 0, written: 0 })
    }

    fn push(&mut self, chunk: &OutputChunk) -> io::Result<()> {
        let mut record = Vec::with_capacity(chunk.bytes.len() + 5);
        record.push(u8::from(chunk.stream == StdStream::Stderr));
        record.extend_from_slice(&u32::try_from(chunk.bytes.len()).map_err(io::Error::other)?.to_le_bytes());
        record.extend_from_slice(&chunk.bytes);
        self.file.write_all_at(&record, self.written)?;
        self.written += record.len() as u64;
        Ok(())
    }

    fn pop(&mut self) -> io::Result<Option<OutputChunk>> {
        if self.read == self.written {
            return Ok(None);
        }
        let mut head = [0; 5];
        self.file.read_exact_at(&mut head, self.read)?;
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, self.read + 5)?;
        self.read += 5 + length as u64;
        let stream = if head[0] == 1 { StdStream::Stderr } else { StdStream::Stdout };
        Ok(Some(OutputChunk { stream, bytes: bytes.into() }))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_slow_client_gets_every_byte_in_order_through_the_backlog() {
        let directory = tempfile::tempdir().unwrap();
        let hub = Hub::new(directory.path());
        let (stream, _ticket) = hub.join(true, true);
        let block = vec![b'x'; 60_000];
        for number in 0..50u8 {
            hub.publish(StdStream::Stdout, &[number]);
            hub.publish(StdStream::Stderr, &block);
        }
        hub.end();
        let chunks: Vec<OutputChunk> = stream.collect().await;
        let numbers: Vec<u8> = chunks
            .iter()
            .filter(|chunk| chunk.stream == StdStream::Stdout)
            .map(|chunk| chunk.bytes[0])
            .collect();
        assert_eq!(numbers, (0..50).collect::<Vec<u8>>());
        assert_eq!(chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>(), 50 * 60_001);
    }

    #[tokio::test]
    async fn a_client_gets_only_what_it_asked_for_until_it_leaves() {
        let directory = tempfile::tempdir().unwrap();
        let hub = Hub::new(directory.path());
        let (mut stream, ticket) = hub.join(false, true);
        hub.publish(StdStream::Stdout, b"out");
        hub.publish(StdStream::Stderr, b"err");
        assert_eq!(stream.next().await.unwrap().bytes, "err");
        ticket.leave();
        hub.publish(StdStream::Stderr, b"more");
        assert_eq!(stream.next().await, None);
    }

    #[test]
    fn a_client_that_went_away_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let hub = Hub::new(directory.path());
        drop(hub.join(true, true).0);
        hub.publish(StdStream::Stdout, b"x");
        assert!(hub.clients().is_empty());
    }
}
