//! Streams with half-close over any vsock: records, and an explicit `end` record for each direction.
//!
//! ```text
//! ┌──────┬───────────────┬──────────────────────┐
//! │ kind │ length (LE16) │ payload, ≤ 16 KiB    │   data · end · reset · message · part
//! └──────┴───────────────┴──────────────────────┘
//! ```
//!
//! Some vsock implementations drop a half-close, kill the other direction with it, or lose writes of 48 KiB and
//! more. So a record is never larger than 16 KiB, is written in one piece, and the end of a direction is a
//! record. A connection that closes without one was cut off, which the reader sees as an error and not as an end.
//!
//! `message` records hold JSON, for the requests and replies that open a connection; one that needs more room
//! is preceded by `part` records. Nothing here is buffered beyond one record per direction and one message.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// The most that one record carries.
pub const MAX_PAYLOAD: usize = 16 * 1024;
/// The most that one message holds, in bytes of JSON.
pub const MAX_MESSAGE: usize = 64 * 1024;

const HEADER: usize = 3;
const DATA: u8 = 1;
const END: u8 = 2;
const RESET: u8 = 3;
const MESSAGE: u8 = 4;
const PART: u8 = 5;

/// A stream of records that reads and writes as a stream of bytes.
///
/// `poll_shutdown` ends only this side's direction; the other goes on until its own end arrives. The stream
/// below closes when this is dropped. Dropping without `shutdown` tells the peer that the stream was cut off.
#[derive(Debug)]
pub struct FramedStream<S> {
    io: S,
    incoming: Incoming,
    outgoing: Outgoing,
}

#[derive(Debug)]
struct Incoming {
    /// Bytes read and not used: at most one record and its header.
    buffer: BytesMut,
    /// How much of the current `data` record has yet to be handed out.
    data_left: usize,
    ended: bool,
}

#[derive(Debug)]
struct Outgoing {
    /// At most one record, on its way out.
    record: BytesMut,
    ended: bool,
}

/// What the next record is, once its header has arrived.
enum Next {
    Data(usize),
    Message { length: usize, last: bool },
    End,
}

impl<S> FramedStream<S> {
    /// Frames `io`, on which nothing may have been read or written yet.
    pub fn new(io: S) -> Self {
        FramedStream {
            io,
            incoming: Incoming { buffer: BytesMut::new(), data_left: 0, ended: false },
            outgoing: Outgoing { record: BytesMut::new(), ended: false },
        }
    }

    /// The stream below.
    pub fn get_ref(&self) -> &S {
        &self.io
    }

    /// The stream below, for who wants to see it close. Anything buffered is gone.
    pub fn into_inner(self) -> S {
        self.io
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FramedStream<S> {
    /// Sends one message and flushes it.
    pub async fn send<T: Serialize + ?Sized>(&mut self, message: &T) -> io::Result<()> {
        let json = serde_json::to_vec(message)?;
        if json.len() > MAX_MESSAGE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a message of {} bytes is too large", json.len()),
            ));
        }
        let mut rest = json.as_slice();
        while rest.len() > MAX_PAYLOAD {
            let (part, tail) = rest.split_at(MAX_PAYLOAD);
            poll_fn(|cx| self.poll_record(cx, PART, part)).await?;
            rest = tail;
        }
        poll_fn(|cx| self.poll_record(cx, MESSAGE, rest)).await?;
        poll_fn(|cx| Pin::new(&mut *self).poll_flush(cx)).await
    }

    /// Receives one message. Bytes, or the end, in its place are an error.
    pub async fn recv<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut json = Vec::new();
        loop {
            match poll_fn(|cx| self.poll_next_record(cx)).await? {
                Next::Message { length, last } => {
                    if json.len() + length > MAX_MESSAGE {
                        return Err(invalid("a message is too large"));
                    }
                    poll_fn(|cx| self.poll_fill(cx, length)).await?;
                    json.extend_from_slice(&self.incoming.buffer[..length]);
                    self.incoming.buffer.advance(length);
                    if last {
                        return Ok(serde_json::from_slice(&json)?);
                    }
                }
                Next::Data(_) => return Err(invalid("bytes arrived in place of a message")),
                Next::End => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Tells the peer that the stream failed on this side, so that its reader gets an error at once.
    pub async fn reset(mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_record(cx, RESET, &[])).await?;
        poll_fn(|cx| Pin::new(&mut self).poll_flush(cx)).await
    }

    /// Waits until `length` bytes are buffered.
    fn poll_fill(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<()>> {
        while self.incoming.buffer.len() < length {
            if ready!(self.poll_read_more(cx))? == 0 {
                return Poll::Ready(Err(cut_off()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what the stream below has, up to one record's worth in the buffer.
    fn poll_read_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let buffer = &mut self.incoming.buffer;
        let room = HEADER + MAX_PAYLOAD - buffer.len();
        buffer.reserve(room);
        poll_read_buf(Pin::new(&mut self.io), cx, &mut buffer.limit(room))
    }

    /// Takes the next record's header off the stream.
    fn poll_next_record(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Next>> {
        loop {
            if self.incoming.ended {
                return Poll::Ready(Ok(Next::End));
            }
            ready!(self.poll_fill(cx, HEADER))?;
            let kind = self.incoming.buffer.get_u8();
            let length = usize::from(self.incoming.buffer.get_u16_le());
            if length > MAX_PAYLOAD {
                return Poll::Ready(Err(invalid("a record is too large")));
            }
            return Poll::Ready(match kind {
                // An empty one says nothing; above all it is no end.
                DATA if length == 0 => continue,
                DATA => Ok(Next::Data(length)),
                MESSAGE => Ok(Next::Message { length, last: true }),
                PART => Ok(Next::Message { length, last: false }),
                END if length == 0 => {
                    self.incoming.ended = true;
                    Ok(Next::End)
                }
                RESET if length == 0 => Err(io::ErrorKind::ConnectionReset.into()),
                _ => Err(invalid("a record of an unknown kind")),
            });
        }
    }

    /// Queues one record, after the one before it is out. Ready means queued, not sent.
    fn poll_record(&mut self, cx: &mut Context<'_>, kind: u8, payload: &[u8]) -> Poll<io::Result<()>> {
        if self.outgoing.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_drain(cx))?;
        let record = &mut self.outgoing.record;
        record.reserve(HEADER + payload.len());
        record.put_u8(kind);
        record.put_u16_le(payload.len() as u16);
        record.put_slice(payload);
        Poll::Ready(Ok(()))
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.record.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.outgoing.record))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.record.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for FramedStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.incoming.data_left == 0 {
            match ready!(this.poll_next_record(cx))? {
                Next::Data(length) => this.incoming.data_left = length,
                Next::End => return Poll::Ready(Ok(())),
                Next::Message { .. } => {
                    return Poll::Ready(Err(invalid("a message arrived in place of bytes")));
                }
            }
        }
        ready!(this.poll_fill(cx, 1))?;
        let length = this.incoming.data_left.min(buf.remaining()).min(this.incoming.buffer.len());
        buf.put_slice(&this.incoming.buffer[..length]);
        this.incoming.buffer.advance(length);
        this.incoming.data_left -= length;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for FramedStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let payload = &bytes[..bytes.len().min(MAX_PAYLOAD)];
        ready!(this.poll_record(cx, DATA, payload))?;
        // Out with it at once if there is room: few callers flush after each write. What does not go now goes
        // before the next record, or with a flush.
        match this.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(payload.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.outgoing.ended {
            ready!(this.poll_record(cx, END, &[]))?;
            this.outgoing.ended = true;
        }
        // The stream below stays open: its own half-close is what cannot be relied on.
        Pin::new(this).poll_flush(cx)
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was cut off before its end")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn pair(capacity: usize) -> (FramedStream<DuplexStream>, FramedStream<DuplexStream>) {
        let (left, right) = duplex(capacity);
        (FramedStream::new(left), FramedStream::new(right))
    }

    /// A small generator, so that a failing case repeats.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % limit
        }
    }

    #[tokio::test]
    async fn bytes_arrive_whole_however_they_are_split() {
        for seed in 0..60 {
            let mut random = Random(seed);
            let content: Vec<u8> = (0..random.below(90_000)).map(|_| random.below(256) as u8).collect();
            let (mut writer, mut reader) = pair(1 + random.below(40_000));
            let sent = content.clone();
            let writing = tokio::spawn(async move {
                let mut random = Random(seed + 1000);
                let mut rest = sent.as_slice();
                while !rest.is_empty() {
                    let (piece, tail) = rest.split_at((1 + random.below(50_000)).min(rest.len()));
                    writer.write_all(piece).await.unwrap();
                    rest = tail;
                }
                writer.shutdown().await.unwrap();
                writer
            });
            let mut received = Vec::new();
            loop {
                let mut piece = vec![0; 1 + random.below(30_000)];
                match reader.read(&mut piece).await.unwrap() {
                    0 => break,
                    read => received.extend_from_slice(&piece[..read]),
                }
            }
            assert_eq!(received, content, "seed {seed}");
            writing.await.unwrap();
        }
    }

    #[tokio::test]
    async fn one_direction_ends_and_the_other_goes_on() {
        let (mut left, mut right) = pair(64);
        left.write_all(b"request").await.unwrap();
        left.shutdown().await.unwrap();
        let mut request = Vec::new();
        right.read_to_end(&mut request).await.unwrap();
        assert_eq!(request, b"request");
        right.write_all(b"reply").await.unwrap();
        right.shutdown().await.unwrap();
        let mut reply = Vec::new();
        left.read_to_end(&mut reply).await.unwrap();
        assert_eq!(reply, b"reply");
        assert_eq!(left.write(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_stream_that_closes_without_its_end_was_cut_off() {
        let (mut left, mut right) = pair(64);
        left.write_all(b"half").await.unwrap();
        drop(left);
        let mut received = Vec::new();
        let error = right.read_to_end(&mut received).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(received, b"half");
    }

    #[tokio::test]
    async fn a_reset_is_an_error_at_the_reader() {
        let (left, mut right) = pair(64);
        left.reset().await.unwrap();
        let error = right.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn messages_come_before_bytes_and_may_span_records() {
        let (mut left, mut right) = pair(1000);
        let long = "x".repeat(50_000);
        let sent = long.clone();
        let sending = tokio::spawn(async move {
            left.send(&sent).await.unwrap();
            left.send(&7u32).await.unwrap();
            left.write_all(b"bytes").await.unwrap();
            left.shutdown().await.unwrap();
            left
        });
        assert_eq!(right.recv::<String>().await.unwrap(), long);
        assert_eq!(right.recv::<u32>().await.unwrap(), 7);
        let mut bytes = Vec::new();
        right.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"bytes");
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn a_message_too_large_is_refused_on_both_sides() {
        let (mut left, mut right) = duplex(300_000);
        for _ in 0..5 {
            left.write_all(&[PART, 0x00, 0x40]).await.unwrap();
            left.write_all(&[b' '; MAX_PAYLOAD]).await.unwrap();
        }
        let mut reader = FramedStream::new(&mut right);
        assert_eq!(reader.recv::<u32>().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut writer = FramedStream::new(&mut left);
        let error = writer.send(&"x".repeat(MAX_MESSAGE)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn unknown_and_oversized_records_are_refused() {
        for record in [[9, 0, 0], [DATA, 0x01, 0x40], [END, 1, 0], [RESET, 1, 0]] {
            let (mut left, right) = duplex(64);
            left.write_all(&record).await.unwrap();
            let error = FramedStream::new(right).read(&mut [0; 8]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{record:?}");
        }
    }

    #[tokio::test]
    async fn an_empty_data_record_is_no_end() {
        let (mut left, right) = duplex(64);
        left.write_all(&[DATA, 0, 0, DATA, 1, 0, b'x', END, 0, 0]).await.unwrap();
        let mut received = Vec::new();
        FramedStream::new(right).read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"x");
    }

    #[tokio::test]
    async fn no_write_to_the_stream_below_exceeds_one_record() {
        let (mut left, mut right) = duplex(1 << 20);
        FramedStream::new(&mut left).write_all(&[0; 100_000]).await.unwrap();
        drop(left);
        let mut raw = Vec::new();
        right.read_to_end(&mut raw).await.unwrap();
        let mut rest = raw.as_slice();
        while let [kind, low, high, tail @ ..] = rest {
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            assert!(*kind == DATA && length <= MAX_PAYLOAD);
            rest = &tail[length..];
        }
        assert!(rest.is_empty());
    }
}
