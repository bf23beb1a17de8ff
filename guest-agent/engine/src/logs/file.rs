//! A container's log on disk: files that follow one another, the newest under the bare name.
//!
//! ```text
//!  ID-json.log ─full─▶ ID-json.log.1 ─▶ ID-json.log.2.gz ─▶ … ─▶ gone
//! ```
//!
//! A file that a reader has open stays readable whatever becomes of its name, and each follower is handed every new
//! file as it is begun. So a rotation is nothing that a follower could miss or see twice.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;

use super::json;
use super::options::Options;
use crate::containers::request::StdStream;

/// Files that wait for a follower at most: one that is farther behind loses the oldest, so that a client which
/// stopped reading doesn't fill the disk.
const FARTHEST_BEHIND: usize = 64;

/// A container's log.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    options: Options,
    writer: Mutex<Writer>,
    /// Bytes written so far; readers that follow wait for it to grow.
    written: watch::Sender<u64>,
}

/// New files for a follower.
pub(crate) type Queue = Arc<Mutex<VecDeque<Arc<File>>>>;

/// A file of the log.
#[derive(Debug)]
pub(crate) enum Segment {
    /// As it was written.
    Plain(File),
    /// Compressed.
    Packed(File),
}

#[derive(Debug, Default)]
struct Writer {
    file: Option<File>,
    /// Bytes in it.
    size: u64,
    buffer: Vec<u8>,
    /// Counts rotations.
    generation: u64,
    followers: Vec<Weak<Mutex<VecDeque<Arc<File>>>>>,
}

impl LogFile {
    /// The log at `path`, opened with the first line.
    pub(crate) fn new(path: PathBuf, options: Options) -> Self {
        LogFile { path, options, writer: Mutex::default(), written: watch::Sender::new(0) }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How much was written, as it grows.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the file; the next line opens it again.
    pub(crate) fn close(&self) {
        let mut writer = self.writer();
        writer.file = None;
        writer.buffer = Vec::new();
    }

    /// Appends lines. What has no newline at its end is an unfinished line.
    pub(crate) fn append(self: &Arc<Self>, stream: StdStream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut writer = self.writer();
        match self.write(&mut writer, stream, bytes) {
            Ok(written) => self.written.send_modify(|total| *total += written),
            Err(error) => tracing::error!("cannot write the log `{}`: {error}", self.path.display()),
        }
    }

    fn write(self: &Arc<Self>, writer: &mut Writer, stream: StdStream, bytes: &[u8]) -> io::Result<u64> {
        let tail = json::tail(stream, &self.options.attributes);
        let mut total = 0;
        let mut pieces = json::pieces(bytes).peekable();
        while pieces.peek().is_some() {
            self.open(writer)?;
            let full = |size: u64| self.options.capacity.is_some_and(|capacity| size >= capacity);
            if full(writer.size) {
                self.rotate(writer)?;
                continue;
            }
            writer.buffer.clear();
            for piece in pieces.by_ref() {
                json::object(piece, &tail, &mut writer.buffer);
                if full(writer.size + writer.buffer.len() as u64) {
                    break;
                }
            }
            let Some(file) = &mut writer.file else { return Ok(total) };
            file.write_all(&writer.buffer)?;
            writer.size += writer.buffer.len() as u64;
            total += writer.buffer.len() as u64;
        }
        if writer.buffer.capacity() > 256 * 1024 {
            writer.buffer = Vec::new();
        }
        Ok(total)
    }

    fn open(&self, writer: &mut Writer) -> io::Result<()> {
        if writer.file.is_some() {
            return Ok(());
        }
        let opened = OpenOptions::new().append(true).read(true).create(true).open(&self.path);
        let mut file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(directory) = self.path.parent() {
                    fs::create_dir(directory)?;
                }
                OpenOptions::new().append(true).read(true).create(true).open(&self.path)?
            }
            opened => opened?,
        };
        writer.size = file.metadata()?.len();
        let mut last = [b'\n'];
        if writer.size > 0 {
            file.read_exact_at(&mut last, writer.size - 1)?;
        }
        if last != [b'\n'] {
            // A power loss has left half a line: what follows must not become part of it.
            file.write_all(b"\n")?;
            writer.size += 1;
        }
        writer.file = Some(file);
        Ok(())
    }

    fn numbered(&self, number: usize, end: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}{end}"));
        name.into()
    }

    fn rotate(self: &Arc<Self>, writer: &mut Writer) -> io::Result<()> {
        writer.file = None;
        let oldest = self.options.files - 1;
        for end in ["", ".gz"] {
            for number in (1..=oldest).rev() {
                let from = self.numbered(number, end);
                let moved = if number == oldest {
                    fs::remove_file(&from)
                } else {
                    fs::rename(&from, self.numbered(number + 1, end))
                };
                absent(moved)?;
            }
        }
        let full = File::open(&self.path)?;
        absent(match oldest {
            0 => fs::remove_file(&self.path),
            _ => fs::rename(&self.path, self.numbered(1, "")),
        })?;
        writer.generation += 1;
        self.open(writer)?;
        let new = Arc::new(File::open(&self.path)?);
        writer.followers.retain(|follower| {
            let Some(queue) = follower.upgrade() else { return false };
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.len() == FARTHEST_BEHIND {
                queue.pop_front();
            }
            queue.push_back(new.clone());
            true
        });
        if self.options.compress {
            let (log, generation) = (self.clone(), writer.generation);
            let packing = std::thread::Builder::new().name("log-gzip".into()).spawn(move || {
                if let Err(error) = log.pack(&full, generation) {
                    tracing::warn!("a log of `{}` stays uncompressed: {error}", log.path.display());
                }
            });
            packing?;
        }
        Ok(())
    }

    /// Compresses the file that was full when `generation` began, which later rotations may have moved on.
    fn pack(&self, mut full: &File, generation: u64) -> io::Result<()> {
        let partial = self.numbered(0, &format!(".{generation}.partial"));
        let mut packer =
            flate2::write::GzEncoder::new(File::create(&partial)?, flate2::Compression::default());
        io::copy(&mut full, &mut packer)?;
        packer.finish()?;
        let writer = self.writer();
        let number = usize::try_from(writer.generation - generation).unwrap_or(usize::MAX) + 1;
        if number >= self.options.files || !self.numbered(number, "").exists() {
            return fs::remove_file(&partial);
        }
        fs::rename(&partial, self.numbered(number, ".gz"))?;
        fs::remove_file(self.numbered(number, ""))
    }

    /// The files as they are now, the oldest first, and for a follower those to come.
    pub(crate) fn segments(&self, follow: bool) -> io::Result<(Vec<Segment>, Option<Queue>)> {
        let mut writer = self.writer();
        let mut segments = Vec::new();
        for number in (1..self.options.files).rev() {
            if let Ok(file) = File::open(self.numbered(number, "")) {
                segments.push(Segment::Plain(file));
            } else if let Ok(file) = File::open(self.numbered(number, ".gz")) {
                segments.push(Segment::Packed(file));
            }
        }
        if follow {
            // A container that wrote nothing yet has no file; a follower needs one to wait at.
            self.open(&mut writer)?;
        }
        match File::open(&self.path) {
            Ok(file) => segments.push(Segment::Plain(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let queue = follow.then(Queue::default);
        writer.followers.retain(|follower| follower.strong_count() > 0);
        writer.followers.extend(queue.iter().map(Arc::downgrade));
        Ok((segments, queue))
    }
}

fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(options: Options) -> (tempfile::TempDir, Arc<LogFile>) {
        let directory = tempfile::tempdir().unwrap();
        let log = Arc::new(LogFile::new(directory.path().join("log"), options));
        (directory, log)
    }

    fn names(directory: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn full_files_move_on_and_the_oldest_goes() {
        let (directory, log) = log(Options { capacity: Some(300), files: 3, ..Options::default() });
        for number in 0..30 {
            log.append(StdStream::Stdout, format!("line {number}\n").as_bytes());
        }
        assert_eq!(names(&directory), ["log", "log.1", "log.2"]);
        for name in names(&directory) {
            assert!(fs::metadata(directory.path().join(name)).unwrap().len() < 400);
        }
        let last = fs::read_to_string(log.path()).unwrap();
        assert!(last.contains("line 29"));
    }

    #[test]
    fn one_file_alone_begins_anew() {
        let (directory, log) = log(Options { capacity: Some(300), ..Options::default() });
        log.append(StdStream::Stdout, "line\n".repeat(100).as_bytes());
        assert_eq!(names(&directory), ["log"]);
        assert!(fs::metadata(log.path()).unwrap().len() < 400);
    }

    #[test]
    fn half_a_line_that_a_power_loss_left_is_ended() {
        let (_directory, log) = log(Options::default());
        fs::write(log.path(), "{\"log\":\"ha").unwrap();
        log.append(StdStream::Stdout, b"whole\n");
        let content = fs::read_to_string(log.path()).unwrap();
        assert!(content.lines().nth(1).unwrap().starts_with("{\"log\":\"whole\\n\""), "{content}");
    }

    #[test]
    fn full_files_are_compressed() {
        let options = Options { capacity: Some(300), files: 3, compress: true, ..Options::default() };
        let (directory, log) = log(options);
        log.append(StdStream::Stdout, "line\n".repeat(8).as_bytes());
        while !names(&directory).contains(&"log.1.gz".to_owned()) {
            std::thread::yield_now();
        }
        let packed = File::open(directory.path().join("log.1.gz")).unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed), &mut text).unwrap();
        assert!(text.starts_with("{\"log\":\"line\\n\""), "{text}");
    }
}
