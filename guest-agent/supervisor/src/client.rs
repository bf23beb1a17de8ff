//! The engine's side.
//!
//! One thread reads everything that the supervisor says and gives answers to those who asked and exits to those
//! who watch. Calls block for microseconds and may come from any thread.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use rustix::net::{RecvFlags, SendFlags};
use tokio::sync::watch;

use crate::wire::{self, Call, Event, ExitStatus, Request, Role};

/// Everything that a child is started from. The program is the supervisor's own, with the argument `container-init`.
#[derive(Debug)]
pub struct SpawnRequest {
    /// What the child is called from now on, until it is released. Must be unused.
    pub key: String,
    /// `CLONE_NEW*` bits that it is born with.
    pub namespaces: u64,
    /// The cgroup v2 directory that it is born in.
    pub cgroup: Option<OwnedFd>,
    /// A pidfd or namespace file: the PID namespace that it is born in.
    pub pid_namespace: Option<OwnedFd>,
    /// Its plan; the child's descriptor 3.
    pub plan: OwnedFd,
    /// Its socket to the engine; the child's descriptor 4.
    pub sync: OwnedFd,
    /// Its standard streams.
    pub stdio: [OwnedFd; 3],
    /// More descriptors for it, from 5 on.
    pub pass: Vec<OwnedFd>,
    /// What the supervisor keeps open for the engine while the key is not released.
    pub hold: Vec<(Role, OwnedFd)>,
}

/// A child just started.
#[derive(Debug)]
pub struct Spawned {
    /// Its number, as the engine sees it.
    pub pid: i32,
    /// A descriptor for it.
    pub pidfd: OwnedFd,
    /// Becomes `Some` when it ends.
    pub exit: watch::Receiver<Option<ExitStatus>>,
}

/// A child that the supervisor knows, given back to a new engine.
#[derive(Debug)]
pub struct Held {
    /// What it was called when it was started.
    pub key: String,
    /// Its number.
    pub pid: i32,
    /// A descriptor for it.
    pub pidfd: OwnedFd,
    /// Is `Some` when it has ended already, or becomes so.
    pub exit: watch::Receiver<Option<ExitStatus>>,
    /// Copies of what is held for it.
    pub held: Vec<(Role, OwnedFd)>,
}

/// The engine's handle on its supervisor.
#[derive(Debug, Clone)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: OwnedFd,
    next: AtomicU64,
    state: Mutex<State>,
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    waiting: HashMap<u64, Waiting>,
    exits: HashMap<String, watch::Sender<Option<ExitStatus>>>,
}

#[derive(Debug)]
struct Waiting {
    answer: mpsc::SyncSender<io::Result<Answer>>,
    /// The key to watch when the answer is [`Event::Spawned`].
    spawning: Option<String>,
    /// The answers to a `List` so far.
    held: Vec<Held>,
}

#[derive(Debug)]
enum Answer {
    Spawned(Spawned),
    Done(Vec<Held>),
}

impl Client {
    /// Takes the engine's end of the socket, the one given as `--supervisor-fd`.
    pub fn connect(socket: OwnedFd) -> io::Result<Client> {
        let shared = Arc::new(Shared {
            socket,
            next: AtomicU64::new(1),
            state: Mutex::default(),
            closed: watch::Sender::new(false),
        });
        let reader = Arc::clone(&shared);
        std::thread::Builder::new().name("supervisor".to_owned()).spawn(move || reader.read())?;
        Ok(Client(shared))
    }

    /// Starts a child.
    pub fn spawn(&self, request: SpawnRequest) -> io::Result<Spawned> {
        let SpawnRequest { key, namespaces, cgroup, pid_namespace, plan, stdio, sync, pass, hold } = request;
        let call = Call::Spawn {
            key: key.clone(),
            namespaces,
            cgroup: cgroup.is_some(),
            pid_namespace: pid_namespace.is_some(),
            passed: u8::try_from(pass.len()).map_err(io::Error::other)?,
            held: hold.iter().map(|(role, _)| *role).collect(),
        };
        let fds: Vec<BorrowedFd<'_>> = [plan.as_fd(), sync.as_fd()]
            .into_iter()
            .chain(stdio.iter().map(AsFd::as_fd))
            .chain(cgroup.iter().map(AsFd::as_fd))
            .chain(pid_namespace.iter().map(AsFd::as_fd))
            .chain(pass.iter().map(AsFd::as_fd))
            .chain(hold.iter().map(|(_, fd)| fd.as_fd()))
            .collect();
        match self.call(call, &fds, Some(key))? {
            Answer::Spawned(spawned) => Ok(spawned),
            Answer::Done(_) => Err(unexpected()),
        }
    }

    /// Every child that is not released yet: for an engine that has just been restarted.
    pub fn held(&self) -> io::Result<Vec<Held>> {
        match self.call(Call::List, &[], None)? {
            Answer::Done(held) => Ok(held),
            Answer::Spawned(_) => Err(unexpected()),
        }
    }

    /// Forgets an ended child, whose exit status the engine has recorded, and closes what was held for it.
    /// Fails with `EBUSY` while the child lives, with `ENOENT` when there is none of this key.
    pub fn release(&self, key: &str) -> io::Result<()> {
        self.call(Call::Release { key: key.to_owned() }, &[], None)?;
        self.0.state().exits.remove(key);
        Ok(())
    }

    /// Kills a child, if it lives, and forgets it with everything that was held for it.
    pub fn discard(&self, key: &str) -> io::Result<()> {
        self.call(Call::Discard { key: key.to_owned() }, &[], None)?;
        self.0.state().exits.remove(key);
        Ok(())
    }

    /// Gives the supervisor more descriptors to hold for a child.
    pub fn hold(&self, key: &str, held: &[(Role, BorrowedFd<'_>)]) -> io::Result<()> {
        let roles = held.iter().map(|(role, _)| *role).collect();
        let fds: Vec<_> = held.iter().map(|(_, fd)| *fd).collect();
        self.call(Call::Hold { key: key.to_owned(), roles }, &fds, None)?;
        Ok(())
    }

    /// Has the supervisor close what it holds in one role: for standard input, so that the child sees its end.
    pub fn unhold(&self, key: &str, role: Role) -> io::Result<()> {
        self.call(Call::Unhold { key: key.to_owned(), role }, &[], None)?;
        Ok(())
    }

    /// Says that the engine has come up. One that ends before saying so is not restarted, because what stopped
    /// it (a wrong option, a socket in use) would stop it again.
    pub fn ready(&self) -> io::Result<()> {
        self.call(Call::Ready, &[], None)?;
        Ok(())
    }

    /// Returns when the supervisor is gone. Nothing works any more then; the engine should end.
    pub async fn closed(&self) {
        // An error means that the sender is gone, which cannot be while `self` lives.
        let _ = self.0.closed.subscribe().wait_for(|closed| *closed).await;
    }

    fn call(&self, call: Call, fds: &[BorrowedFd<'_>], spawning: Option<String>) -> io::Result<Answer> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let record = wire::encode(&Request { id, call })?;
        let (answer, answered) = mpsc::sync_channel(1);
        {
            let mut state = self.0.state();
            if state.closed {
                return Err(gone());
            }
            state.waiting.insert(id, Waiting { answer, spawning, held: Vec::new() });
        }
        if let Err(error) = wire::send(self.0.socket.as_fd(), &record, fds, SendFlags::empty()) {
            self.0.state().waiting.remove(&id);
            return Err(error);
        }
        answered.recv().map_err(|_| gone())?
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) {
        loop {
            match wire::receive(self.socket.as_fd(), RecvFlags::empty()) {
                Ok(Some((event, fds))) => self.state().take(event, fds),
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(%error, "the supervisor said something unknown");
                }
                Err(error) => {
                    tracing::error!(%error, "the supervisor cannot be heard any more");
                    break;
                }
            }
        }
        {
            let mut state = self.state();
            state.closed = true;
            // Dropping the senders wakes those who wait for an answer.
            state.waiting.clear();
        }
        self.closed.send_replace(true);
    }
}

impl State {
    fn take(&mut self, event: Event, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        match event {
            Event::Spawned { to, pid } => {
                let Some(waiting) = self.waiting.remove(&to) else { return };
                let answer = match (waiting.spawning, fds.next()) {
                    (Some(key), Some(pidfd)) => {
                        let exit = self.watch(key, None);
                        Ok(Answer::Spawned(Spawned { pid, pidfd, exit }))
                    }
                    _ => Err(unexpected()),
                };
                // Who asked may have given up.
                let _ = waiting.answer.send(answer);
            }
            Event::Held { to, key, pid, exit, roles } => {
                let exit = self.watch(key.clone(), exit);
                if let (Some(waiting), Some(pidfd)) = (self.waiting.get_mut(&to), fds.next()) {
                    let held = roles.into_iter().zip(fds).collect();
                    waiting.held.push(Held { key, pid, pidfd, exit, held });
                }
            }
            Event::Done { to } => {
                if let Some(waiting) = self.waiting.remove(&to) {
                    let _ = waiting.answer.send(Ok(Answer::Done(waiting.held)));
                }
            }
            Event::Failed { to, errno } => {
                if let Some(waiting) = self.waiting.remove(&to) {
                    let _ = waiting.answer.send(Err(io::Error::from_raw_os_error(errno)));
                }
            }
            Event::Exited { key, status } => {
                if let Some(exit) = self.exits.get(&key) {
                    exit.send_replace(Some(status));
                }
            }
        }
    }

    fn watch(&mut self, key: String, exit: Option<ExitStatus>) -> watch::Receiver<Option<ExitStatus>> {
        let sender = self.exits.entry(key).or_insert_with(|| watch::Sender::new(None));
        if exit.is_some() {
            sender.send_replace(exit);
        }
        sender.subscribe()
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the supervisor is gone")
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the supervisor gave an answer to another question")
}
