//! Between blocking code that reads and writes bytes and the streams that clients send and get.

use std::io::{self, BufWriter, Read, Write};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::containers::request::BoxStream;

/// Bytes handed over at once.
const PIECE: usize = 64 * 1024;
/// Pieces that may wait.
const QUEUE: usize = 4;

/// What `work` writes, as a stream. A failure is the stream's last item; when nobody reads any more, writing fails.
pub(crate) fn produce(
    work: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> BoxStream<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut output = BufWriter::with_capacity(PIECE, Sink(sender.clone()));
        if let Err(error) = work(&mut output).and_then(|()| output.flush()) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

struct Sink(mpsc::Sender<io::Result<Bytes>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream that blocking code can read.
pub(crate) struct Source {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

/// Lets blocking code read what a client sends.
pub(crate) fn consume(mut stream: BoxStream<io::Result<Bytes>>) -> Source {
    let (sender, pieces) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while let Some(piece) = stream.next().await {
            if sender.send(piece).await.is_err() {
                // The rest is still read, so that the client gets to read the answer.
                while let Some(Ok(_)) = stream.next().await {}
                return;
            }
        }
    });
    Source { pieces, piece: Bytes::new() }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let length = buffer.len().min(self.piece.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_in_order_and_a_failure_comes_last() {
        let stream = produce(|output| {
            output.write_all(&[b'x'; 200_000])?;
            Err(io::Error::other("gone"))
        });
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            let error = consume(stream).read_to_end(&mut bytes).unwrap_err();
            (bytes.len(), error.to_string())
        });
        // Whole pieces only: what the failure interrupted isn't sent.
        let (length, error) = read.await.unwrap();
        assert!(length > 100_000 && error == "gone", "{length} {error}");
    }
}
