//! A running process of a container: its first one, or an exec.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};
use supervisor::{Client, ExitStatus, Held, Role};
use tokio::sync::watch;

/// A handle on it. Dropping the handle leaves the process alone.
#[derive(Debug, Clone)]
pub struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    key: String,
    pid: i32,
    pidfd: OwnedFd,
    exit: watch::Receiver<Option<ExitStatus>>,
    ends: Mutex<Option<Ends>>,
    terminal: Option<OwnedFd>,
    supervisor: Client,
}

/// The engine's ends of a process's standard streams. The supervisor holds copies of each.
#[derive(Debug)]
pub enum Ends {
    /// Pipes.
    Pipes {
        /// To write input to, if there is any. To end the input, drop this and call [`Process::close_stdin`].
        stdin: Option<OwnedFd>,
        /// To read output from.
        stdout: OwnedFd,
        /// To read error output from.
        stderr: OwnedFd,
    },
    /// The master of a terminal, for both directions. Reading gives EIO when the last process has let go of it.
    Terminal(OwnedFd),
}

/// A namespace of a process, by the kernel's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceKind {
    /// Processes.
    Pid,
    /// System V IPC and message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Network.
    Net,
    /// Cgroup tree.
    Cgroup,
    /// Mounts.
    Mount,
    /// Users.
    User,
}

impl NamespaceKind {
    fn file(self) -> &'static str {
        match self {
            NamespaceKind::Pid => "pid",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            NamespaceKind::Net => "net",
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::Mount => "mnt",
            NamespaceKind::User => "user",
        }
    }
}

impl Process {
    pub(crate) fn new(
        id: String,
        key: String,
        spawned: supervisor::Spawned,
        ends: Ends,
        supervisor: Client,
    ) -> io::Result<Process> {
        let supervisor::Spawned { pid, pidfd, exit } = spawned;
        let terminal = match &ends {
            Ends::Terminal(master) => Some(master.try_clone()?),
            Ends::Pipes { .. } => None,
        };
        let ends = Mutex::new(Some(ends));
        Ok(Process(Arc::new(Inner { id, key, pid, pidfd, exit, ends, terminal, supervisor })))
    }

    pub(crate) fn from_held(id: String, held: Held, supervisor: Client) -> io::Result<Process> {
        let Held { key, pid, pidfd, exit, held } = held;
        let (mut stdin, mut stdout, mut stderr, mut terminal) = (None, None, None, None);
        for (role, fd) in held {
            match role {
                Role::Stdin => stdin = Some(fd),
                Role::Stdout => stdout = Some(fd),
                Role::Stderr => stderr = Some(fd),
                Role::Terminal => terminal = Some(fd),
            }
        }
        let copy = terminal.as_ref().map(OwnedFd::try_clone).transpose()?;
        let ends = match (terminal, stdout, stderr) {
            (Some(master), _, _) => Some(Ends::Terminal(master)),
            (None, Some(stdout), Some(stderr)) => Some(Ends::Pipes { stdin, stdout, stderr }),
            // Its terminal was never handed over: the launch was cut short.
            _ => None,
        };
        let ends = Mutex::new(ends);
        Ok(Process(Arc::new(Inner { id, key, pid, pidfd, exit, ends, terminal: copy, supervisor })))
    }

    /// The container's id, or the exec's.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Its number, as the engine sees it.
    pub fn pid(&self) -> i32 {
        self.0.pid
    }

    /// A descriptor for it.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.pidfd.as_fd()
    }

    /// Whether it has a terminal.
    pub fn is_terminal(&self) -> bool {
        self.0.terminal.is_some()
    }

    /// The engine's ends of its streams, once.
    pub fn take_stdio(&self) -> Option<Ends> {
        self.0.ends.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Has the supervisor give up its copy of the input's end. The program sees the end of its input when the
    /// engine has dropped its own copy too.
    pub fn close_stdin(&self) -> io::Result<()> {
        self.0.supervisor.unhold(&self.0.key, Role::Stdin)
    }

    /// Sends a signal. `ESRCH` when it has ended.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        sys::signal::send_to(self.pidfd(), signal)
    }

    /// Sets the size of its terminal, in characters.
    pub fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        match &self.0.terminal {
            Some(terminal) => sys::terminal::set_size(terminal.as_fd(), width, height),
            None => Err(io::Error::from_raw_os_error(libc::ENOTTY)),
        }
    }

    /// How it ended, if it has ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.0.exit.borrow()
    }

    /// Waits for its end. Any number of callers may wait, before and after.
    pub async fn wait(&self) -> ExitStatus {
        let mut exit = self.0.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(status) => *status,
            Err(_) => None,
        }
        // The supervisor is gone, and the status with it.
        .unwrap_or(ExitStatus { code: None, signal: Some(libc::SIGKILL), at: SystemTime::now() })
    }

    /// Its root directory, as a path descriptor: what archive and copy work in, by `openat2` with
    /// `RESOLVE_IN_ROOT`, because every link in it is the container's to choose.
    pub fn root(&self) -> io::Result<OwnedFd> {
        self.open("root", OFlags::PATH | OFlags::DIRECTORY)
    }

    /// One of its namespaces, to join.
    pub fn namespace(&self, kind: NamespaceKind) -> io::Result<OwnedFd> {
        self.open(&format!("ns/{}", kind.file()), OFlags::RDONLY)
    }

    fn open(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let path = format!("/proc/{}/{name}", self.0.pid);
        let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?;
        // Only now is it sure that the number was still this process's.
        sys::signal::send_to(self.pidfd(), 0)?;
        Ok(opened)
    }
}
