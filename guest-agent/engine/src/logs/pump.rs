//! From a process's pipe or terminal to its log and its clients.
//!
//! The supervisor holds the pipes too, so they outlive the engine. To lose nothing when the engine is killed,
//! a logged pipe is not simply read: its content is copied (tee(2)), written to the log, and only then taken
//! out. The beginning of an unfinished line stays in the pipe for a moment, though attached clients have had it
//! already. Not for longer: a write that fills a pipe which was not empty wakes nobody who waits for edges
//! (pipe_write in the kernel), so writer and reader would wait for each other.
//! A terminal can't be copied so; there the bytes between a read and the write behind it are at risk.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::json::PIECE;
use super::{Hub, LogFile};
use crate::containers::request::StdStream;

/// A pipe's whole default capacity.
const BLOCK: usize = 64 * 1024;

/// How long an unfinished line may wait in its pipe for its end.
const UNFINISHED: Duration = Duration::from_millis(20);

/// With so much in a pipe its writer may be waiting for room, so everything is taken.
const CROWDED: usize = BLOCK / 2;

/// Where the bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A pipe's reading end.
    Pipe(OwnedFd),
    /// A terminal's master.
    Terminal(OwnedFd),
}

/// Moves everything until the other end is closed, or until `ended` says that the process is gone and nothing
/// is left.
pub(crate) async fn pump(
    source: Source,
    stream: StdStream,
    hub: Arc<Hub>,
    log: Option<Arc<LogFile>>,
    mut ended: watch::Receiver<bool>,
) {
    let (fd, pipe) = match source {
        Source::Pipe(fd) => (fd, true),
        Source::Terminal(fd) => (fd, false),
    };
    let registered = register(fd, Interest::READABLE);
    let fd = match registered {
        Ok(fd) => fd,
        Err(error) => {
            tracing::error!("cannot read a container's output: {error}");
            return;
        }
    };
    let mut copy = Copy { stream, hub, log, shown: 0, pipe };
    let mut finishing = false;
    loop {
        let mut flush = false;
        let mut guard = None;
        if !finishing {
            tokio::select! {
                biased;
                ready = fd.readable() => {
                    guard = ready.ok();
                    finishing = guard.as_ref().is_none_or(|guard| guard.ready().is_read_closed());
                }
                _ = ended.wait_for(|ended| *ended) => finishing = true,
                () = tokio::time::sleep(UNFINISHED), if copy.shown > 0 => flush = true,
            }
        }
        match copy.step(fd.as_fd(), finishing || flush) {
            Ok(Step::Moved) => {}
            Ok(Step::Empty) if finishing => return,
            Ok(Step::Empty) => {
                if let Some(mut guard) = guard {
                    guard.clear_ready();
                }
            }
            Ok(Step::Closed) => return,
            Err(error) => {
                tracing::error!("cannot read a container's output: {error}");
                return;
            }
        }
        // A container that writes without end must not keep this thread.
        tokio::task::coop::consume_budget().await;
    }
}

/// Lets a descriptor be waited for.
pub(crate) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that may swap their descriptor; `OwnedFd` can't"
    )]
    AsyncFd::with_interest(fd, interest)
}

enum Step {
    Moved,
    Empty,
    Closed,
}

struct Copy {
    stream: StdStream,
    hub: Arc<Hub>,
    log: Option<Arc<LogFile>>,
    /// Bytes at the head of the pipe that clients have had.
    shown: usize,
    pipe: bool,
}

/// What a thread needs to look at pipes: one buffer and one pipe, whatever the number of containers.
struct Scratch {
    buffer: Vec<u8>,
    reader: OwnedFd,
    writer: OwnedFd,
    null: File,
}

thread_local! {
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

impl Scratch {
    fn new() -> io::Result<Scratch> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let null = File::options().write(true).open("/dev/null")?;
        Ok(Scratch { buffer: vec![0; BLOCK], reader, writer, null })
    }
}

impl Copy {
    fn step(&mut self, fd: BorrowedFd<'_>, everything: bool) -> io::Result<Step> {
        SCRATCH.with_borrow_mut(|slot| {
            if slot.is_none() {
                *slot = Some(Scratch::new()?);
            }
            let Some(scratch) = slot.as_mut() else { return Ok(Step::Closed) };
            match self.log.clone() {
                Some(log) if self.pipe => self.logged(fd, &log, scratch, everything),
                log => self.plain(fd, log.as_ref(), scratch),
            }
        })
    }

    /// Reads, shows, and for a terminal logs.
    fn plain(
        &mut self,
        fd: BorrowedFd<'_>,
        log: Option<&Arc<LogFile>>,
        scratch: &mut Scratch,
    ) -> io::Result<Step> {
        match rustix::io::read(fd, &mut scratch.buffer) {
            // A terminal whose last user is gone says EIO.
            Ok(0) | Err(rustix::io::Errno::IO) => Ok(Step::Closed),
            Ok(length) => {
                self.hub.publish(self.stream, &scratch.buffer[..length]);
                if let Some(log) = log {
                    log.append(self.stream, &scratch.buffer[..length]);
                }
                Ok(Step::Moved)
            }
            Err(rustix::io::Errno::AGAIN) => Ok(Step::Empty),
            Err(rustix::io::Errno::INTR) => Ok(Step::Moved),
            Err(error) => Err(error.into()),
        }
    }

    fn logged(
        &mut self,
        fd: BorrowedFd<'_>,
        log: &Arc<LogFile>,
        scratch: &mut Scratch,
        everything: bool,
    ) -> io::Result<Step> {
        let length = match rustix::pipe::tee(fd, &scratch.writer, BLOCK, SpliceFlags::NONBLOCK) {
            Ok(0) => return Ok(Step::Closed),
            Ok(length) => length,
            Err(rustix::io::Errno::AGAIN) => return Ok(Step::Empty),
            Err(rustix::io::Errno::INTR) => return Ok(Step::Moved),
            Err(error) => return Err(error.into()),
        };
        let mut got = 0;
        while got < length {
            got += rustix::io::read(&scratch.reader, &mut scratch.buffer[got..length])?;
        }
        let content = &scratch.buffer[..length];
        let new = &content[self.shown.min(length)..];
        if !new.is_empty() {
            self.hub.publish(self.stream, new);
        }
        let take = if everything || length >= CROWDED { length } else { complete(content) };
        log.append(self.stream, &content[..take]);
        self.shown = length - take;
        consume(fd, &scratch.null, take)?;
        Ok(if take == 0 && new.is_empty() { Step::Empty } else { Step::Moved })
    }
}

/// How much of a pipe's content can be logged: whole lines, and whole pieces of a line without end.
fn complete(content: &[u8]) -> usize {
    let mut take = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
    while content.len() - take >= PIECE {
        take += PIECE;
    }
    take
}

/// Takes bytes out of a pipe without looking at them.
fn consume(fd: BorrowedFd<'_>, null: &File, mut length: usize) -> io::Result<()> {
    while length > 0 {
        match rustix::pipe::splice(fd, None, null, None, length, SpliceFlags::empty()) {
            Ok(0) => return Ok(()),
            Ok(moved) => length -= moved,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_util::StreamExt;

    use super::*;

    struct Setting {
        directory: tempfile::TempDir,
        hub: Arc<Hub>,
        log: Arc<LogFile>,
        ended: watch::Sender<bool>,
    }

    impl Setting {
        fn new() -> Setting {
            let directory = tempfile::tempdir().unwrap();
            let hub = Arc::new(Hub::new(directory.path()));
            let log = Arc::new(LogFile::new(directory.path().join("log"), super::super::Options::default()));
            Setting { directory, hub, log, ended: watch::Sender::new(false) }
        }

        fn pump(&self) -> (File, OwnedFd, tokio::task::JoinHandle<()>) {
            let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
            let held = reader.try_clone().unwrap();
            let task = tokio::spawn(pump(
                Source::Pipe(reader),
                StdStream::Stdout,
                self.hub.clone(),
                Some(self.log.clone()),
                self.ended.subscribe(),
            ));
            (File::from(writer), held, task)
        }

        fn logged(&self) -> String {
            std::fs::read_to_string(self.directory.path().join("log"))
                .unwrap_or_default()
                .lines()
                .map(|line| {
                    serde_json::from_str::<serde_json::Value>(line).unwrap()["log"]
                        .as_str()
                        .unwrap()
                        .to_owned()
                })
                .collect()
        }
    }

    #[tokio::test]
    async fn an_unfinished_line_is_shown_at_once_and_logged_a_moment_later() {
        let setting = Setting::new();
        let (mut clients, _ticket) = setting.hub.join(true, true);
        let mut length = setting.log.written();
        let (mut writer, held, task) = setting.pump();
        writer.write_all(b"first\npassword: ").unwrap();
        assert_eq!(clients.next().await.unwrap().bytes, "first\npassword: ");
        length.changed().await.unwrap();
        while setting.logged() != "first\npassword: " {
            length.changed().await.unwrap();
        }
        assert_eq!(rustix::io::ioctl_fionread(&held).unwrap(), 0);
        writer.write_all(b"secret\nlast").unwrap();
        assert_eq!(clients.next().await.unwrap().bytes, "secret\nlast");
        drop(writer);
        task.await.unwrap();
        assert_eq!(setting.logged(), "first\npassword: secret\nlast");
        assert_eq!(rustix::io::ioctl_fionread(&held).unwrap(), 0);
    }

    #[tokio::test]
    async fn the_process_s_end_ends_the_pump_though_somebody_else_has_the_pipe_open() {
        let setting = Setting::new();
        let (mut writer, _held, task) = setting.pump();
        writer.write_all(b"unfinished").unwrap();
        setting.ended.send_replace(true);
        task.await.unwrap();
        assert_eq!(setting.logged(), "unfinished");
        drop(writer);
    }

    #[tokio::test]
    async fn a_write_larger_than_the_pipe_behind_an_unfinished_line_passes() {
        let setting = Setting::new();
        let (mut clients, _ticket) = setting.hub.join(true, true);
        let (mut writer, _held, task) = setting.pump();
        writer.write_all(b"prompt: ").unwrap();
        assert_eq!(clients.next().await.unwrap().bytes, "prompt: ");
        let text = "line\n".repeat(50_000);
        let written = text.clone();
        tokio::task::spawn_blocking(move || writer.write_all(written.as_bytes()).unwrap()).await.unwrap();
        task.await.unwrap();
        assert!(setting.logged() == format!("prompt: {text}"));
    }

    #[tokio::test]
    async fn a_line_longer_than_the_pipe_passes_whole() {
        let setting = Setting::new();
        let (mut writer, _held, task) = setting.pump();
        let line = "x".repeat(1_000_000) + "\n";
        let text = line.clone();
        tokio::task::spawn_blocking(move || writer.write_all(text.as_bytes()).unwrap()).await.unwrap();
        task.await.unwrap();
        assert!(setting.logged() == line);
    }
}
