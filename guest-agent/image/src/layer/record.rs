//! The rest of a layer's tar: all its bytes but the contents of its files, which lie in the layer's directory.
//!
//! A layer must be saved and pushed as the very bytes that its diff id was taken of. Writers of tar differ in headers,
//! order, padding and trailers, so re-making them is hopeless; keeping them costs a few bytes per file once compressed.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::tar::Tap;
use crate::UnpackError;

/// Bytes of the archive as they are.
const RAW: u8 = 0;
/// A range of a file's content.
const CONTENT: u8 = 1;
/// The file, or directory, that had this path until here was moved away.
const MOVED: u8 = 2;
/// Raw bytes are written in pieces of this size.
const PIECE: usize = 128 * 1024;
/// Headers are repetitive: the fastest level already makes a tenth of them.
const LEVEL: i32 = 1;

pub(crate) struct Recorder {
    output: zstd::Encoder<'static, BufWriter<File>>,
    raw: Vec<u8>,
}

/// One step of writing the tar again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Raw(Vec<u8>),
    Content { path: Vec<u8>, offset: u64, length: u64 },
    Moved { path: Vec<u8>, number: u64 },
}

fn failed(source: io::Error) -> UnpackError {
    UnpackError::Entry { doing: "record", name: "headers".to_owned(), source }
}

impl Recorder {
    pub(crate) fn create(path: &Path) -> Result<Recorder, UnpackError> {
        let file = File::create_new(path).map_err(failed)?;
        let output = zstd::Encoder::new(BufWriter::new(file), LEVEL).map_err(failed)?;
        Ok(Recorder { output, raw: Vec::with_capacity(PIECE) })
    }

    pub(crate) fn content(&mut self, path: &[u8], offset: u64, length: u64) -> Result<(), UnpackError> {
        self.step(CONTENT, path, &[offset, length])
    }

    pub(crate) fn moved(&mut self, path: &[u8], number: u64) -> Result<(), UnpackError> {
        self.step(MOVED, path, &[number])
    }

    pub(crate) fn finish(mut self) -> Result<(), UnpackError> {
        self.flush()?;
        self.output.finish().and_then(|mut file| file.flush()).map_err(failed)
    }

    fn step(&mut self, kind: u8, path: &[u8], numbers: &[u64]) -> Result<(), UnpackError> {
        self.flush()?;
        let mut bytes = Vec::with_capacity(path.len() + 32);
        bytes.push(kind);
        bytes.extend_from_slice(&length(path)?);
        bytes.extend_from_slice(path);
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.output.write_all(&bytes).map_err(failed)
    }

    fn flush(&mut self) -> Result<(), UnpackError> {
        if self.raw.is_empty() {
            return Ok(());
        }
        self.output.write_all(&[RAW]).map_err(failed)?;
        self.output.write_all(&length(&self.raw)?).map_err(failed)?;
        self.output.write_all(&self.raw).map_err(failed)?;
        self.raw.clear();
        Ok(())
    }
}

fn length(bytes: &[u8]) -> Result<[u8; 4], UnpackError> {
    let length = u32::try_from(bytes.len()).map_err(|_| UnpackError::Header("name too long"))?;
    Ok(length.to_le_bytes())
}

impl Tap for Recorder {
    fn raw(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        for piece in bytes.chunks(PIECE) {
            if self.raw.len() + piece.len() > PIECE {
                self.flush()?;
            }
            self.raw.extend_from_slice(piece);
        }
        Ok(())
    }
}

/// Reads a record's steps in order.
pub(crate) struct Steps {
    input: BufReader<zstd::Decoder<'static, BufReader<File>>>,
}

impl Steps {
    pub(crate) fn open(path: &Path) -> io::Result<Steps> {
        Ok(Steps { input: BufReader::new(zstd::Decoder::new(File::open(path)?)?) })
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Step>> {
        let mut kind = [0];
        if self.input.read(&mut kind)? == 0 {
            return Ok(None);
        }
        let bytes = self.bytes()?;
        Ok(Some(match kind[0] {
            RAW => Step::Raw(bytes),
            CONTENT => Step::Content { path: bytes, offset: self.number()?, length: self.number()? },
            MOVED => Step::Moved { path: bytes, number: self.number()? },
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "unknown step in layer record")),
        }))
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.input.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length as usize > 2 * super::tar::BLOCK.max(PIECE).max(1 << 20) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "step too long in layer record"));
        }
        let mut bytes = vec![0; length as usize];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut number = [0; 8];
        self.input.read_exact(&mut number)?;
        Ok(u64::from_le_bytes(number))
    }
}
