//! One start, seen from the engine: streams, plan, spawn, and what container-init says.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use supervisor::{Client, Role, SpawnRequest, Spawned};

use crate::error::{Failure, number};
use crate::init::wire::{self, InitPlan, Word};
use crate::plan::Stdio;
use crate::process::{Ends, Process};

/// A process's streams before it exists.
pub(crate) struct Streams {
    theirs: [OwnedFd; 3],
    /// `None`: a terminal, which container-init opens.
    ours: Option<Ends>,
}

impl Streams {
    pub(crate) fn open(stdio: Stdio) -> Result<Streams, Failure> {
        Streams::try_open(stdio).map_err(Failure::step("opening the standard streams"))
    }

    fn try_open(stdio: Stdio) -> io::Result<Streams> {
        let null = |flags| {
            rustix::fs::open("/dev/null", flags | OFlags::CLOEXEC, Mode::empty()).map_err(io::Error::from)
        };
        match stdio {
            Stdio::Terminal { .. } => {
                let theirs = [null(OFlags::RDONLY)?, null(OFlags::WRONLY)?, null(OFlags::WRONLY)?];
                Ok(Streams { theirs, ours: None })
            }
            Stdio::Pipes { stdin } => {
                let (their_stdin, our_stdin) = if stdin {
                    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
                    (read, Some(write))
                } else {
                    (null(OFlags::RDONLY)?, None)
                };
                let (our_stdout, their_stdout) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
                let (our_stderr, their_stderr) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
                Ok(Streams {
                    theirs: [their_stdin, their_stdout, their_stderr],
                    ours: Some(Ends::Pipes { stdin: our_stdin, stdout: our_stdout, stderr: our_stderr }),
                })
            }
        }
    }
}

/// What a process is started as.
pub(crate) struct Child {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) namespaces: u64,
    pub(crate) cgroup: Option<OwnedFd>,
    pub(crate) pid_namespace: Option<OwnedFd>,
    pub(crate) pass: Vec<OwnedFd>,
}

impl Child {
    /// Starts it and waits until its program runs. When that fails, nothing of it is left.
    pub(crate) fn start(
        self,
        supervisor: &Client,
        plan: &InitPlan,
        streams: Streams,
    ) -> Result<Process, Failure> {
        let Streams { theirs, ours } = streams;
        let (sync, their_sync) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| Failure::step("opening a socket")(error.into()))?;
        let plan = memfd(plan).map_err(Failure::step("writing the plan"))?;
        let hold = copies(ours.as_ref()).map_err(Failure::step("duplicating the standard streams"))?;
        let joins_pid_namespace = self.pid_namespace.is_some();
        let request = SpawnRequest {
            key: self.key.clone(),
            namespaces: self.namespaces,
            cgroup: self.cgroup,
            pid_namespace: self.pid_namespace,
            plan,
            sync: their_sync,
            stdio: theirs,
            pass: self.pass,
            hold,
        };
        let spawned = supervisor.spawn(request).map_err(|error| match error.raw_os_error() {
            // A PID namespace whose first process has ended takes no more.
            Some(libc::ENOMEM | libc::ESRCH | libc::EINVAL) if joins_pid_namespace => Failure::NotRunning,
            _ => Failure::Step { what: "starting a process".to_owned(), errno: number(&error) },
        })?;
        match accompany(&sync, &self.key, supervisor) {
            Ok(terminal) => finish(self.id, self.key.clone(), spawned, ours, terminal, supervisor)
                .map_err(Failure::step("duplicating the terminal")),
            Err(failure) => Err(failure),
        }
        .inspect_err(|_| {
            if let Err(error) = supervisor.discard(&self.key) {
                tracing::warn!(key = %self.key, %error, "a process that failed to start cannot be discarded");
            }
        })
    }
}

/// Listens to container-init until its program runs; gives its terminal, if it has one.
fn accompany(sync: &OwnedFd, key: &str, supervisor: &Client) -> Result<Option<OwnedFd>, Failure> {
    let mut terminal = None;
    let mut executing = false;
    loop {
        let heard = wire::hear(sync.as_fd()).map_err(Failure::step("listening to container init"))?;
        match heard {
            Some((Word::Terminal, Some(master))) => {
                supervisor
                    .hold(key, &[(Role::Terminal, master.as_fd())])
                    .map_err(Failure::step("keeping the terminal"))?;
                rustix::io::write(sync, &[1])
                    .map_err(|error| Failure::step("answering container init")(error.into()))?;
                terminal = Some(master);
            }
            Some((Word::Terminal, None)) => return Err(Failure::Died),
            Some((Word::Executing, _)) => executing = true,
            Some((Word::Failed(failure), _)) => return Err(failure),
            None if executing => return Ok(terminal),
            None => return Err(Failure::Died),
        }
    }
}

fn finish(
    id: String,
    key: String,
    spawned: Spawned,
    ours: Option<Ends>,
    terminal: Option<OwnedFd>,
    supervisor: &Client,
) -> io::Result<Process> {
    let ends = match (ours, terminal) {
        (Some(ends), _) => ends,
        (None, Some(master)) => Ends::Terminal(master),
        (None, None) => return Err(io::Error::from_raw_os_error(libc::ENOTTY)),
    };
    Process::new(id, key, spawned, ends, supervisor.clone())
}

fn copies(ours: Option<&Ends>) -> io::Result<Vec<(Role, OwnedFd)>> {
    let Some(Ends::Pipes { stdin, stdout, stderr }) = ours else { return Ok(Vec::new()) };
    let mut copies = vec![(Role::Stdout, stdout.try_clone()?), (Role::Stderr, stderr.try_clone()?)];
    if let Some(stdin) = stdin {
        copies.push((Role::Stdin, stdin.try_clone()?));
    }
    Ok(copies)
}

/// The plan in a memfd that nobody can change any more.
fn memfd(plan: &InitPlan) -> io::Result<OwnedFd> {
    let bytes = postcard::to_stdvec(plan).map_err(io::Error::other)?;
    let memfd = rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut written = 0;
    while written < bytes.len() {
        written += rustix::io::pwrite(&memfd, &bytes[written..], written as u64)?;
    }
    rustix::fs::fcntl_add_seals(
        &memfd,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    Ok(memfd)
}
