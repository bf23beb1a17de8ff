//! Long answers, cut into pieces: JSON lines, a container's log, and files on their way to the engine.

use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::de::DeserializeOwned;
use tokio_util::io::ReaderStream;

use super::client::{Answers, Body, ClientError};
use super::types::{LogChunk, LogStream, Progress};

/// Largest line of a JSON stream. Docker's own lines stay far below.
const MAX_LINE: usize = 1 << 20;

/// Largest frame of a multiplexed log; the engine writes at most what one read of a pipe gave.
const MAX_FRAME: usize = 16 << 20;

/// What cuts a buffer: takes one item off its front, or says that more bytes are needed.
type Cut<T> = fn(&mut BytesMut, bool) -> Result<Option<T>, String>;

struct Cutter<T> {
    body: BodyStream<Incoming>,
    buffer: BytesMut,
    call: String,
    cut: Cut<T>,
    ended: bool,
}

impl<T> Cutter<T> {
    async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            match (self.cut)(&mut self.buffer, self.ended) {
                Ok(Some(item)) => return Ok(Some(item)),
                Ok(None) if self.ended => return Ok(None),
                Ok(None) => {}
                Err(reason) => {
                    self.ended = true;
                    self.buffer.clear();
                    return Err(ClientError::Answer { call: self.call.clone(), source: reason.into() });
                }
            }
            match self.body.next().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(source)) => {
                    self.ended = true;
                    self.buffer.clear();
                    return Err(ClientError::Transport { call: self.call.clone(), source });
                }
                None => self.ended = true,
            }
        }
    }
}

fn cut_all<T: Send + 'static>(body: Incoming, call: String, cut: Cut<T>) -> Answers<T> {
    let cutter = Cutter { body: BodyStream::new(body), buffer: BytesMut::new(), call, cut, ended: false };
    Box::pin(stream::unfold(cutter, |mut cutter| async move {
        cutter.next().await.transpose().map(|item| (item, cutter))
    }))
}

/// One JSON value per line.
pub(super) fn json_lines<T: DeserializeOwned + Send + 'static>(body: Incoming, call: String) -> Answers<T> {
    cut_all(body, call, cut_line)
}

/// A pull's or load's progress, whose error line becomes an error.
pub(super) fn progress(body: Incoming, call: String) -> Answers<Progress> {
    Box::pin(json_lines::<Progress>(body, call).map(|line| match line {
        Ok(Progress { error: Some(error), .. }) => Err(ClientError::Failed(error)),
        other => other,
    }))
}

/// A container's log: raw with a terminal, else in frames that name their stream.
pub(super) fn log_chunks(body: Incoming, tty: bool, call: String) -> Answers<LogChunk> {
    cut_all(body, call, if tty { cut_raw } else { cut_frame })
}

/// A file as the body of a request.
pub(super) async fn file_body(path: &Path) -> Result<Body, ClientError> {
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|source| ClientError::File { path: path.to_owned(), source })?;
    Ok(StreamBody::new(ReaderStream::with_capacity(file, 64 << 10).map_ok(Frame::data)).boxed_unsync())
}

fn cut_line<T: DeserializeOwned>(buffer: &mut BytesMut, ended: bool) -> Result<Option<T>, String> {
    loop {
        let line = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                let line = buffer.split_to(end);
                buffer.advance(1);
                line
            }
            None if ended => buffer.split(),
            None if buffer.len() > MAX_LINE => return Err("a line is longer than 1 MiB".to_owned()),
            None => return Ok(None),
        };
        let line = line.trim_ascii();
        if !line.is_empty() {
            return serde_json::from_slice(line).map(Some).map_err(|error| error.to_string());
        }
        if ended && buffer.is_empty() {
            return Ok(None);
        }
    }
}

fn cut_raw(buffer: &mut BytesMut, ended: bool) -> Result<Option<LogChunk>, String> {
    if buffer.is_empty() {
        return Ok(None);
    }
    // A character may be cut in two by the reads; its begin waits for the rest.
    let whole = if ended { buffer.len() } else { whole_characters(buffer) };
    if whole == 0 {
        return Ok(None);
    }
    let bytes = buffer.split_to(whole);
    Ok(Some(LogChunk { stream: LogStream::Stdout, text: String::from_utf8_lossy(&bytes).into_owned() }))
}

/// How many bytes can be shown now: all but the begin of a character that isn't complete yet.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => match error.valid_up_to() {
            0 if bytes.len() >= 4 => bytes.len(),
            valid => valid,
        },
        _ => bytes.len(),
    }
}

fn cut_frame(buffer: &mut BytesMut, ended: bool) -> Result<Option<LogChunk>, String> {
    loop {
        let Some((header, _)) = buffer.split_first_chunk::<8>() else {
            return if ended && !buffer.is_empty() {
                Err("a log frame is cut off".to_owned())
            } else {
                Ok(None)
            };
        };
        let [stream, _, _, _, length @ ..] = *header;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_FRAME {
            return Err(format!("a log frame claims {length} bytes"));
        }
        if buffer.len() < 8 + length {
            return if ended { Err("a log frame is cut off".to_owned()) } else { Ok(None) };
        }
        buffer.advance(8);
        let bytes: Bytes = buffer.split_to(length).freeze();
        if bytes.is_empty() {
            continue;
        }
        let stream = if stream == 2 { LogStream::Stderr } else { LogStream::Stdout };
        return Ok(Some(LogChunk { stream, text: String::from_utf8_lossy(&bytes).into_owned() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_frame_names_its_stream_and_may_arrive_in_two_reads() {
        let mut buffer = BytesMut::from(&b"\x02\0\0\0\0\0\0\x03ab"[..]);
        assert_eq!(cut_frame(&mut buffer, false), Ok(None));
        buffer.extend_from_slice(b"c\x01\0\0\0");
        let chunk = cut_frame(&mut buffer, false).unwrap().unwrap();
        assert_eq!(chunk, LogChunk { stream: LogStream::Stderr, text: "abc".to_owned() });
        assert_eq!(cut_frame(&mut buffer, true), Err("a log frame is cut off".to_owned()));
    }

    #[test]
    fn json_lines_need_no_last_newline_and_skip_empty_ones() {
        let mut buffer = BytesMut::from(&b"{\"status\":\"a\"}\r\n\n{\"error\":\"b\"}"[..]);
        let first: Progress = cut_line(&mut buffer, false).unwrap().unwrap();
        assert_eq!(first.status.as_deref(), Some("a"));
        assert!(cut_line::<Progress>(&mut buffer, false).unwrap().is_none());
        let second: Progress = cut_line(&mut buffer, true).unwrap().unwrap();
        assert_eq!(second.error.as_deref(), Some("b"));
        assert!(cut_line::<Progress>(&mut buffer, true).unwrap().is_none());
    }

    #[test]
    fn a_character_cut_in_two_waits_for_its_rest() {
        let mut buffer = BytesMut::from(&"é".as_bytes()[..1]);
        assert_eq!(cut_raw(&mut buffer, false), Ok(None));
        buffer.extend_from_slice(&"é".as_bytes()[1..]);
        assert_eq!(cut_raw(&mut buffer, false).unwrap().unwrap().text, "é");
    }
}
