//! Reading a log back: its tail, a span of time, and what is still to come.
//!
//! A reader opens every file of the log at once and reads one after the other; a follower is then handed each new one.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::LogFile;
use super::file::{Queue, Segment};
use super::tail;
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
    #[serde(borrow, default)]
    attrs: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

impl Line<'_> {
    fn stream(&self) -> StdStream {
        if self.stream == "stderr" { StdStream::Stderr } else { StdStream::Stdout }
    }
}

/// Opens the log as asked. A follower ends when `lives` turns false and everything was read.
pub(crate) fn read(
    log: &Arc<LogFile>,
    options: LogOptions,
    lives: watch::Receiver<bool>,
) -> BoxStream<OutputChunk> {
    let (sender, receiver) = mpsc::channel(4);
    let length = log.written();
    let log = log.clone();
    tokio::spawn(async move {
        let opened = tokio::task::spawn_blocking(move || {
            let reader = Reader::open(&log, options)?;
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
    file: Arc<File>,
    position: u64,
    /// Files to read after this one.
    ahead: VecDeque<Arc<File>>,
    /// Those that are begun while this reader follows.
    begun: Option<Queue>,
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
    fn open(log: &LogFile, options: LogOptions) -> io::Result<Reader> {
        let (segments, begun) = log.segments(options.follow)?;
        let directory = log.path().parent().unwrap_or(Path::new("/"));
        let files = segments
            .into_iter()
            .map(|segment| match segment {
                Segment::Plain(file) => Ok(Arc::new(file)),
                Segment::Packed(file) => unpack(file, directory).map(Arc::new),
            })
            .collect::<io::Result<Vec<_>>>()?;
        let (first, position) = match options.tail {
            None => (0, 0),
            Some(lines) => tail::begin(&files, lines, |object| {
                let line: Line<'_> = serde_json::from_slice(object).ok()?;
                Some((line.stream(), line.log.ends_with('\n')))
            })?,
        };
        let mut ahead: VecDeque<Arc<File>> = files.into_iter().skip(first).collect();
        let file = ahead.pop_front().ok_or(io::ErrorKind::NotFound)?;
        Ok(Reader { file, position, ahead, begun, options, inside: false })
    }

    /// The file after this one.
    fn successor(&mut self) -> Option<Arc<File>> {
        self.ahead.pop_front().or_else(|| {
            self.begun
                .as_ref()
                .and_then(|begun| begun.lock().unwrap_or_else(PoisonError::into_inner).pop_front())
        })
    }

    fn block(&mut self) -> io::Result<Block> {
        // Asked before reading: with a successor nothing more is written to this file.
        if let Some(next) = self.successor() {
            self.ahead.push_front(next);
        }
        let mut buffer = vec![0; BLOCK];
        let mut length = 0;
        // A line may be longer than a block, when it is full of escapes.
        loop {
            let read = self.file.read_at(&mut buffer[length..], self.position + length as u64)?;
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
        let mut more = length == buffer.len();
        if !more && let Some(next) = self.ahead.pop_front() {
            (self.file, self.position, more) = (next, 0, true);
        }
        Ok(Block { chunks, more, done })
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
            let stream = line.stream();
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
                text.extend_from_slice(details(&line.attrs).as_bytes());
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

/// The content of a compressed file, in one without a name.
fn unpack(packed: File, directory: &Path) -> io::Result<File> {
    let flags = i32::try_from(rustix::fs::OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
    let mut file = File::options().read(true).write(true).custom_flags(flags).open(directory)?;
    io::copy(&mut flate2::read::GzDecoder::new(packed), &mut file)?;
    Ok(file)
}

/// What lines are marked with, as a query string would say it.
fn details(attributes: &BTreeMap<Cow<'_, str>, Cow<'_, str>>) -> String {
    let escaped = |text: &str| {
        let mut escaped = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    escaped.push(byte.into());
                }
                b' ' => escaped.push('+'),
                _ => escaped.push_str(&format!("%{byte:02X}")),
            }
        }
        escaped
    };
    let pairs = attributes.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::*;

    fn log() -> (tempfile::TempDir, Arc<LogFile>) {
        let directory = tempfile::tempdir().unwrap();
        let log = Arc::new(LogFile::new(directory.path().join("log"), Options::default()));
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

    #[tokio::test]
    async fn a_follower_gets_every_line_once_over_rotations() {
        for compress in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let options = Options { capacity: Some(2000), files: 3, compress, ..Options::default() };
            let log = Arc::new(LogFile::new(directory.path().join("log"), options));
            let lives = watch::Sender::new(true);
            let follow = LogOptions { follow: true, ..self::options() };
            let mut stream = read(&log, follow, lives.subscribe());
            log.append(StdStream::Stdout, b"line 0\n");
            assert_eq!(stream.next().await.unwrap().bytes, "line 0\n");
            // Some forty files are begun: far more than are kept.
            for number in 1..1000 {
                log.append(StdStream::Stdout, format!("line {number}\n").as_bytes());
                if number % 50 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            lives.send_replace(false);
            let rest = texts(stream).await;
            let expected: Vec<String> = (1..1000).map(|number| format!("line {number}\n")).collect();
            assert!(rest == expected, "{} lines", rest.len());
            let still = watch::Sender::new(false);
            let kept = texts(read(&log, self::options(), still.subscribe())).await;
            assert!(kept.len() > 30 && kept.last().unwrap() == "line 999\n", "{}", kept.len());
            assert!(kept == expected[expected.len() - kept.len()..]);
            let tail = LogOptions { tail: Some(40), ..self::options() };
            assert!(texts(read(&log, tail, still.subscribe())).await == expected[expected.len() - 40..]);
        }
    }

    #[tokio::test]
    async fn the_tail_counts_lines_also_where_they_are_in_pieces() {
        let (_directory, log) = log();
        let long = "x".repeat(40_000);
        log.append(StdStream::Stdout, format!("first\n{long}\nlast\n").as_bytes());
        log.append(StdStream::Stdout, b"unfinished");
        let lives = watch::Sender::new(false);
        let last = |lines| read(&log, LogOptions { tail: Some(lines), ..options() }, lives.subscribe());
        assert_eq!(texts(last(2)).await.concat(), "last\nunfinished");
        assert_eq!(texts(last(3)).await.concat(), format!("{long}\nlast\nunfinished"));
        assert_eq!(texts(last(4)).await.concat(), format!("first\n{long}\nlast\nunfinished"));
    }

    #[tokio::test]
    async fn details_are_the_attributes() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { attributes: r#"{"env":"a b","tag":"x=1"}"#.into(), ..Options::default() };
        let log = Arc::new(LogFile::new(directory.path().join("log"), options));
        log.append(StdStream::Stdout, b"line\n");
        let lives = watch::Sender::new(false);
        let get = LogOptions { details: true, ..self::options() };
        assert_eq!(texts(read(&log, get, lives.subscribe())).await, ["env=a+b,tag=x%3D1 line\n"]);
    }
}
