//! Reading a log back: its tail, a span of time, and what is still to come.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::LogFile;
use crate::containers::request::{BoxStream, LogOptions, OutputChunk, StdStream};
use crate::time::Time;

/// Bytes of the file that are read at once.
const BLOCK: usize = 256 * 1024;

/// One object of the file.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
}

/// Opens the log as asked. A follower ends when `lives` turns false and everything was read.
pub(crate) fn read(
    log: &Arc<LogFile>,
    options: LogOptions,
    lives: watch::Receiver<bool>,
) -> BoxStream<OutputChunk> {
    let (sender, receiver) = mpsc::channel(4);
    let length = log.length();
    let path = log.path().to_owned();
    tokio::spawn(async move {
        let opened = tokio::task::spawn_blocking(move || {
            let reader = Reader::open(&path, options)?;
            Ok::<_, io::Error>(reader)
        })
        .await;
        match opened {
            Ok(Ok(reader)) => follow(reader, length, lives, sender).await,
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(error)) => tracing::warn!("cannot read a log: {error}"),
            Err(_) => {}
        }
    });
    Box::pin(ReceiverStream::new(receiver).flat_map(futures_util::stream::iter))
}

async fn follow(
    mut reader: Reader,
    mut length: watch::Receiver<u64>,
    mut lives: watch::Receiver<bool>,
    sender: mpsc::Sender<Vec<OutputChunk>>,
) {
    loop {
        // Asked before reading: what is written after this is seen by the next round.
        let ended = !*lives.borrow();
        length.borrow_and_update();
        let block = tokio::task::spawn_blocking(move || {
            let block = reader.block();
            (reader, block)
        });
        let Ok((back, block)) = block.await else { return };
        reader = back;
        match block {
            Ok(Block { chunks, more, done }) => {
                if !chunks.is_empty() && sender.send(chunks).await.is_err() || done {
                    return;
                }
                if more {
                    continue;
                }
            }
            Err(error) => {
                tracing::warn!("cannot read a log: {error}");
                return;
            }
        }
        if !reader.options.follow || ended {
            return;
        }
        tokio::select! {
            changed = length.changed() => if changed.is_err() { return },
            _ = lives.wait_for(|lives| !lives) => {}
            () = sender.closed() => return,
            () = until(reader.options.until) => return,
        }
    }
}

/// Waits for that time, for ever without one.
async fn until(time: Option<Time>) {
    match time {
        None => std::future::pending().await,
        Some(time) => {
            let left = time.unix_nanos().saturating_sub(Time::now().unix_nanos());
            tokio::time::sleep(std::time::Duration::from_nanos(u64::try_from(left).unwrap_or(0))).await;
        }
    }
}

struct Reader {
    file: File,
    position: u64,
    options: LogOptions,
    /// The text before was an unfinished line: no prefix now.
    inside: bool,
}

struct Block {
    chunks: Vec<OutputChunk>,
    /// There is more to read now.
    more: bool,
    /// A line later than `until` was met.
    done: bool,
}

impl Reader {
    fn open(path: &std::path::Path, options: LogOptions) -> io::Result<Reader> {
        // A container that wrote nothing yet has no file; a follower needs one to wait at.
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && options.follow => {
                File::options().read(true).append(true).create(true).open(path)?
            }
            other => other?,
        };
        let position = match options.tail {
            None => 0,
            Some(lines) => tail(&file, lines)?,
        };
        Ok(Reader { file, position, options, inside: false })
    }

    fn block(&mut self) -> io::Result<Block> {
        let mut buffer = vec![0; BLOCK];
        self.file.seek(SeekFrom::Start(self.position))?;
        let mut length = 0;
        // A line may be longer than a block, when it is full of escapes.
        loop {
            let read = self.file.read(&mut buffer[length..])?;
            length += read;
            if read == 0 || length == buffer.len() && buffer[..length].contains(&b'\n') {
                break;
            }
            if length == buffer.len() {
                buffer.resize(length * 2, 0);
            }
        }
        let whole = buffer[..length].iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
        self.position += whole as u64;
        let (chunks, done) = self.lines(&buffer[..whole]);
        Ok(Block { chunks, more: length == buffer.len(), done })
    }

    fn lines(&mut self, content: &[u8]) -> (Vec<OutputChunk>, bool) {
        let mut text = BytesMut::with_capacity(content.len());
        let mut spans = Vec::new();
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else {
                // A power loss may leave zeroes or half a line; the rest of the log is still good.
                continue;
            };
            let timed = self.options.since.is_some() || self.options.until.is_some();
            if timed {
                let time = Time::parse(&line.time).unwrap_or_default();
                if self.options.since.is_some_and(|since| time < since) {
                    continue;
                }
                if self.options.until.is_some_and(|until| time > until) {
                    return (cut(text.freeze(), &spans), true);
                }
            }
            let stream = if line.stream == "stderr" { StdStream::Stderr } else { StdStream::Stdout };
            let wanted = match stream {
                StdStream::Stdout => self.options.stdout,
                StdStream::Stderr => self.options.stderr,
            };
            if !wanted {
                continue;
            }
            if self.options.timestamps && !self.inside {
                text.extend_from_slice(nine_digits(&line.time).as_bytes());
                text.extend_from_slice(b" ");
            }
            if self.options.details && !self.inside {
                text.extend_from_slice(b" ");
            }
            self.inside = !line.log.ends_with('\n');
            text.extend_from_slice(line.log.as_bytes());
            spans.push((stream, text.len()));
        }
        (cut(text.freeze(), &spans), false)
    }
}

/// docker prints the times of log lines with all nine digits, so that they stand in a column.
fn nine_digits(time: &str) -> String {
    let bare = time.strip_suffix('Z').unwrap_or(time);
    let (whole, fraction) = bare.split_once('.').unwrap_or((bare, ""));
    format!("{whole}.{fraction:0<9}Z")
}

fn cut(text: Bytes, spans: &[(StdStream, usize)]) -> Vec<OutputChunk> {
    let mut begin = 0;
    let mut chunks = Vec::with_capacity(spans.len());
    for (stream, end) in spans {
        chunks.push(OutputChunk { stream: *stream, bytes: text.slice(begin..*end) });
        begin = *end;
    }
    chunks
}

/// Where the last `lines` objects begin, read from the end.
fn tail(file: &File, lines: usize) -> io::Result<u64> {
    let mut position = file.metadata()?.len();
    if lines == 0 {
        return Ok(position);
    }
    let mut found = 0;
    let mut buffer = vec![0; 64 * 1024];
    let end = position;
    while position > 0 {
        let length = buffer.len().min(usize::try_from(position).unwrap_or(usize::MAX));
        position -= length as u64;
        file.read_exact_at(&mut buffer[..length], position)?;
        for index in (0..length).rev().filter(|index| buffer[*index] == b'\n') {
            let after = position + index as u64 + 1;
            // The newline at the very end closes the last line, it doesn't begin one.
            if after != end {
                found += 1;
                if found == lines {
                    return Ok(after);
                }
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (tempfile::TempDir, Arc<LogFile>) {
        let directory = tempfile::tempdir().unwrap();
        let log = Arc::new(LogFile::new(directory.path().join("log")));
        (directory, log)
    }

    fn options() -> LogOptions {
        LogOptions { stdout: true, stderr: true, ..LogOptions::default() }
    }

    async fn texts(stream: BoxStream<OutputChunk>) -> Vec<String> {
        stream.map(|chunk| String::from_utf8(chunk.bytes.to_vec()).unwrap()).collect().await
    }

    #[tokio::test]
    async fn tail_gives_the_last_lines_and_more_than_all_gives_all() {
        let (_directory, log) = log();
        for number in 0..5000 {
            log.append(StdStream::Stdout, format!("line {number}\n").as_bytes());
        }
        let lives = watch::Sender::new(false);
        let last = |lines| read(&log, LogOptions { tail: Some(lines), ..options() }, lives.subscribe());
        assert_eq!(texts(last(2)).await, ["line 4998\n", "line 4999\n"]);
        assert_eq!(texts(last(0)).await.len(), 0);
        assert_eq!(texts(last(9999)).await.len(), 5000);
        assert_eq!(texts(last(1500)).await[0], "line 3500\n");
    }

    #[tokio::test]
    async fn a_follower_gets_what_is_there_what_comes_and_its_end() {
        let (_directory, log) = log();
        let lives = watch::Sender::new(true);
        log.append(StdStream::Stdout, b"one\n");
        let mut stream = read(&log, LogOptions { follow: true, ..options() }, lives.subscribe());
        assert_eq!(stream.next().await.unwrap().bytes, "one\n");
        log.append(StdStream::Stderr, b"two\n");
        let two = stream.next().await.unwrap();
        assert_eq!((two.stream, &two.bytes[..]), (StdStream::Stderr, &b"two\n"[..]));
        log.append(StdStream::Stdout, b"three\n");
        lives.send_replace(false);
        assert_eq!(texts(stream).await, ["three\n"]);
    }

    #[tokio::test]
    async fn a_follower_may_come_before_the_first_line() {
        let (_directory, log) = log();
        let lives = watch::Sender::new(true);
        let mut stream = read(&log, LogOptions { follow: true, ..options() }, lives.subscribe());
        log.append(StdStream::Stdout, b"one\n");
        assert_eq!(stream.next().await.unwrap().bytes, "one\n");
    }

    #[tokio::test]
    async fn since_until_streams_and_timestamps() {
        let (_directory, log) = log();
        std::fs::write(
            log.path(),
            concat!(
                "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:01.5Z\"}\n",
                "half a li\n",
                "{\"log\":\"b\\n\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:02Z\"}\n",
                "{\"log\":\"c\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:03Z\"}\n",
            ),
        )
        .unwrap();
        let lives = watch::Sender::new(false);
        let get = |options| texts(read(&log, options, lives.subscribe()));
        let since = Some(Time::from_unix_nanos(2_000_000_000));
        assert_eq!(get(LogOptions { since, ..options() }).await, ["b\n", "c\n"]);
        assert_eq!(get(LogOptions { until: since, ..options() }).await, ["a\n", "b\n"]);
        assert_eq!(get(LogOptions { stderr: false, ..options() }).await, ["a\n", "c\n"]);
        assert_eq!(
            get(LogOptions { timestamps: true, tail: Some(4), ..options() }).await[0],
            "1970-01-01T00:00:01.500000000Z a\n"
        );
    }
}
