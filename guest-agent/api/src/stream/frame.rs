//! Docker's multiplexed stream: stdout and stderr in one, each chunk behind an 8-byte header.
//!
//! `[stream, 0, 0, 0, length (4 bytes, big endian)]`, where the stream is 1 for stdout and 2 for stderr.

use bytes::{BufMut, Bytes, BytesMut};

/// Content type of a stream with frames.
pub(crate) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// Content type of a stream without, and of every stream before API 1.42.
pub(crate) const RAW: &str = "application/vnd.docker.raw-stream";

/// The stream that a chunk belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout = 1,
    Stderr = 2,
}

/// The 8 bytes before a chunk. A chunk is far shorter than 4 GiB: it comes out of a pipe.
pub(crate) fn header(stream: Stream, length: usize) -> [u8; 8] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// A chunk behind its header; as it is on a terminal, where there is one stream only.
pub(crate) fn chunk(tty: bool, stream: Stream, bytes: Bytes) -> Bytes {
    if tty {
        return bytes;
    }
    let mut framed = BytesMut::with_capacity(8 + bytes.len());
    framed.put_slice(&header(stream, bytes.len()));
    framed.put_slice(&bytes);
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_stands_behind_its_stream_and_length() {
        let framed = chunk(false, Stream::Stderr, Bytes::from(vec![b'x'; 258]));
        assert_eq!(framed[..8], [2, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(framed.len(), 266);
        assert_eq!(chunk(false, Stream::Stdout, Bytes::from_static(b"hi"))[..], *b"\x01\0\0\0\0\0\0\x02hi");
    }

    #[test]
    fn a_terminal_has_no_frames() {
        assert_eq!(chunk(true, Stream::Stdout, Bytes::from_static(b"hi"))[..], *b"hi");
    }
}
