//! The `json-file` log: one JSON object per line, as every tool that reads docker's logs knows it.
//!
//! A batch of lines is one write and shares one time, that at which it was read. A line longer than 16 KiB
//! is several objects, of which only the last one's text ends in a newline.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::containers::request::StdStream;
use crate::time::Time;

/// Longest text in one object; docker's own limit, so that its readers' buffers do.
pub(crate) const PIECE: usize = 16 * 1024;

/// A container's log.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    writer: Mutex<Writer>,
    /// Bytes in the file; readers that follow wait for it to grow.
    length: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Writer {
    file: Option<File>,
    buffer: Vec<u8>,
}

impl LogFile {
    /// The log at `path`, opened with the first line.
    pub(crate) fn new(path: PathBuf) -> Self {
        let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        LogFile { path, writer: Mutex::default(), length: watch::Sender::new(length) }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length as it grows.
    pub(crate) fn length(&self) -> watch::Receiver<u64> {
        self.length.subscribe()
    }

    /// Closes the file; the next line opens it again.
    pub(crate) fn close(&self) {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Writer::default();
    }

    /// Appends lines. What has no newline at its end is an unfinished line.
    pub(crate) fn append(&self, stream: StdStream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match writer.append(&self.path, stream, bytes) {
            Ok(written) => self.length.send_modify(|length| *length += written),
            Err(error) => tracing::error!("cannot write the log `{}`: {error}", self.path.display()),
        }
    }
}

impl Writer {
    fn append(&mut self, path: &Path, stream: StdStream, bytes: &[u8]) -> io::Result<u64> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().append(true).create(true).open(path)?,
        };
        self.buffer.clear();
        let tail = match stream {
            StdStream::Stdout => format!("\",\"stream\":\"stdout\",\"time\":\"{}\"}}\n", Time::now()),
            StdStream::Stderr => format!("\",\"stream\":\"stderr\",\"time\":\"{}\"}}\n", Time::now()),
        };
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = line;
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(piece_length(rest));
                self.buffer.extend_from_slice(b"{\"log\":\"");
                escape(piece, &mut self.buffer);
                self.buffer.extend_from_slice(tail.as_bytes());
                rest = more;
            }
        }
        file.write_all(&self.buffer)?;
        self.file = Some(file);
        if self.buffer.capacity() > 256 * 1024 {
            self.buffer = Vec::new();
        }
        Ok(self.buffer.len() as u64)
    }
}

/// How much of a line goes into one object: at most [`PIECE`] and no half character.
fn piece_length(line: &[u8]) -> usize {
    if line.len() <= PIECE + 1 && line.ends_with(b"\n") || line.len() <= PIECE {
        return line.len();
    }
    let mut end = PIECE;
    while end > PIECE - 4 && line[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    end
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes text as the inside of a JSON string. Bytes that are no UTF-8 become U+FFFD, as in docker's logs.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        let text = chunk.valid().as_bytes();
        let mut clean = 0;
        for (index, byte) in text.iter().enumerate() {
            let short: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                0..0x20 | 0x7f => {
                    out.extend_from_slice(&text[clean..index]);
                    // Programs do write megabytes of zeroes: no formatting machinery here.
                    let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&digits);
                    clean = index + 1;
                    continue;
                }
                _ => continue,
            };
            out.extend_from_slice(&text[clean..index]);
            out.extend_from_slice(short);
            clean = index + 1;
        }
        out.extend_from_slice(&text[clean..]);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[&[u8]]) -> Vec<serde_json::Value> {
        let directory = tempfile::tempdir().unwrap();
        let log = LogFile::new(directory.path().join("log"));
        for part in parts {
            log.append(StdStream::Stdout, part);
        }
        let content = std::fs::read_to_string(log.path()).unwrap();
        assert_eq!(*log.length().borrow(), content.len() as u64);
        content.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_line_is_one_object_and_comes_back_as_it_was() {
        let lines = written(&[b"a \"quoted\" \\ line\x1b[0m\r\n\ttab \xc3\xa9\nunfinished"]);
        let texts: Vec<&str> = lines.iter().map(|line| line["log"].as_str().unwrap()).collect();
        assert_eq!(texts, ["a \"quoted\" \\ line\x1b[0m\r\n", "\ttab é\n", "unfinished"]);
        assert_eq!(lines[0]["stream"], "stdout");
        assert!(Time::parse(lines[0]["time"].as_str().unwrap()).is_some());
    }

    #[test]
    fn what_is_no_utf_8_is_replaced() {
        assert_eq!(written(&[b"a\xffb\n"])[0]["log"], "a\u{fffd}b\n");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let line = "é".repeat(PIECE) + "\n";
        let lines = written(&[line.as_bytes()]);
        let whole: String = lines.iter().map(|line| line["log"].as_str().unwrap()).collect();
        assert_eq!(whole, line);
        assert!(lines.iter().all(|line| line["log"].as_str().unwrap().len() <= PIECE + 1));
    }
}
