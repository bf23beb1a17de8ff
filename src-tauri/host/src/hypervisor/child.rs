//! Child processes that cannot outlive us: QEMU, its vsock daemon, the engine without a VM.
//!
//! Each child has a thread of its own that starts it and waits for it. The kernel's parent-death signal is tied
//! to the *thread* that started the child, so a thread that lives exactly as long as the child is what makes it
//! sound; the signal itself is set by `setpriv`, since setting it between fork and exec would need `unsafe`.
//! Children stand in process groups of their own, so that Ctrl-C in a terminal leaves the shutdown to us.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::{oneshot, watch};

/// What to run.
pub(super) struct Program {
    /// The program's file.
    pub(super) file: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<OsString>,
    /// Where its output goes, appended.
    pub(super) output: PathBuf,
    /// `setpriv`, where this system has it.
    pub(super) setpriv: Option<PathBuf>,
    /// What the child gets when this process dies: `KILL` or `TERM`.
    pub(super) death_signal: &'static str,
}

/// A child that runs, or ran. Dropping the last clone kills it.
#[derive(Clone)]
pub(super) struct Child {
    inner: Arc<Inner>,
}

struct Inner {
    pidfd: OwnedFd,
    ended: watch::Receiver<Option<ExitStatus>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

impl Child {
    /// Starts the program.
    pub(super) async fn spawn(program: Program) -> io::Result<Child> {
        let (started, start) = oneshot::channel();
        let (report, ended) = watch::channel(None);
        let name =
            program.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        std::thread::Builder::new().name(name).spawn(move || {
            let mut child = match command(&program).and_then(|mut command| command.spawn()) {
                Ok(child) => child,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            // The child isn't waited for yet, so its number can't be another's.
            let pidfd =
                pid.ok_or(rustix::io::Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
            let _ = started.send(pidfd.map_err(io::Error::from));
            let status = child.wait();
            report.send_replace(Some(status.unwrap_or_else(|_| ExitStatus::from_raw(0))));
        })?;
        let pidfd = start.await.map_err(|_| io::Error::other("the thread that starts programs ended"))??;
        Ok(Child { inner: Arc::new(Inner { pidfd, ended }) })
    }

    /// Sends a signal; one that has ended is left alone.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.inner.pidfd, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Waits for its end.
    pub(super) async fn wait(&self) -> ExitStatus {
        let mut ended = self.inner.ended.clone();
        let status = ended.wait_for(Option::is_some).await.ok().and_then(|status| *status);
        status.unwrap_or_else(|| ExitStatus::from_raw(0))
    }

    /// Its exit status, once it has ended.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        *self.inner.ended.borrow()
    }
}

fn command(program: &Program) -> io::Result<Command> {
    let output = std::fs::File::options().create(true).append(true).open(&program.output)?;
    let mut command = match &program.setpriv {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", program.death_signal]).arg(&program.file);
            command
        }
        None => Command::new(&program.file),
    };
    command
        .args(&program.arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    Ok(command)
}

/// Waits until `socket` is there, `child` has ended, or time is up.
pub(super) async fn socket_appears(
    socket: &Path,
    child: &Child,
    patience: std::time::Duration,
) -> io::Result<()> {
    let appears = async {
        while !socket.exists() {
            if let Some(status) = child.ended() {
                return Err(io::Error::other(format!("it ended with {status}")));
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        Ok(())
    };
    tokio::time::timeout(patience, appears).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path) -> Program {
        Program {
            file: "/bin/sleep".into(),
            arguments: vec!["1000".into()],
            output: dir.join("output"),
            setpriv: Some("/usr/bin/setpriv".into()).filter(|path: &PathBuf| path.exists()),
            death_signal: "KILL",
        }
    }

    #[tokio::test]
    async fn a_child_ends_when_its_last_handle_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let child = Child::spawn(sleeper(dir.path())).await.unwrap();
        let mut ended = child.inner.ended.clone();
        let clone = child.clone();
        drop(child);
        assert_eq!(*ended.borrow(), None);
        drop(clone);
        let status = ended.wait_for(Option::is_some).await.unwrap().unwrap();
        assert_eq!(status.signal(), Some(9));
    }

    #[tokio::test]
    async fn a_signal_reaches_the_child_and_its_end_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let child = Child::spawn(sleeper(dir.path())).await.unwrap();
        child.signal(Signal::TERM).unwrap();
        assert_eq!(child.wait().await.signal(), Some(15));
        child.signal(Signal::TERM).unwrap();
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut program = sleeper(dir.path());
        program.file = dir.path().join("nothing");
        program.setpriv = None;
        let error = Child::spawn(program).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
