//! Which compression a stream has, told by its first bytes: media types lie.

use std::io::{self, BufRead, Read};

use crate::ImageError;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
/// So many bytes tell the compression.
pub(super) const TELLING: usize = 6;
/// A window larger than this is refused: 128 MiB is what the format's long mode uses at most by default.
const MAX_WINDOW_LOG: u32 = 27;

/// A stream as its writer had it before compressing.
pub(crate) enum Decoder<'a, R: BufRead> {
    Plain(&'a mut R),
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a mut R>>),
    Zstd(zstd::Decoder<'a, &'a mut R>),
}

/// Whether these first bytes are of a compression that is read here.
pub(crate) fn is_compressed(start: &[u8]) -> bool {
    start.starts_with(GZIP) || start.starts_with(ZSTD) || is_skippable(start)
}

/// Zstandard streams may begin with a frame for other programs.
fn is_skippable(start: &[u8]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// Reads the first bytes of `input` and picks its decoder.
pub(crate) fn open<R: BufRead>(input: &mut R) -> Result<Decoder<'_, R>, ImageError> {
    let read = |error| ImageError::Unpack(crate::UnpackError::Decompress(error));
    let start = input.fill_buf().map_err(read)?;
    let refuse = |name: &str| ImageError::Unsupported {
        what: format!("layers compressed with {name} are not supported: use gzip or zstd"),
    };
    if start.starts_with(GZIP) {
        return Ok(Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))));
    }
    if start.starts_with(ZSTD) || is_skippable(start) {
        let mut decoder = zstd::Decoder::with_buffer(input).map_err(read)?;
        decoder.window_log_max(MAX_WINDOW_LOG).map_err(read)?;
        return Ok(Decoder::Zstd(decoder));
    }
    if start.starts_with(BZIP2) {
        return Err(refuse("bzip2"));
    }
    if start.starts_with(XZ) {
        return Err(refuse("xz"));
    }
    Ok(Decoder::Plain(input))
}

impl<R: BufRead> Decoder<'_, R> {
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Decoder::Plain(_))
    }
}

impl<R: BufRead> Read for Decoder<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(input) => input.read(buffer),
            Decoder::Gzip(input) => input.read(buffer),
            Decoder::Zstd(input) => input.read(buffer),
        }
    }
}
