//! What is shared of a container: its handle. The state itself belongs to its task; see [`super::actor`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::Process;
use tokio::sync::{mpsc, oneshot, watch};

use super::exec::Exec;
use super::input::Gate;
use super::record::Record;
use super::request::{RemoveOptions, Started, WaitCondition, WaitResult, Waiting};
use super::spec::{EndpointSettings, HostConfig};
use super::update::Updated;
use super::view::HealthResult;
use crate::error::{Error, Result};
use crate::logs::{Hub, LogFile};
use crate::networks::Which;

/// Answers a command.
pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// What its task can be asked.
pub(crate) enum Command {
    Start(Reply<Started>),
    Signal {
        signal: i32,
        purpose: Purpose,
        reply: Reply<Signalled>,
    },
    Pause(Reply<()>),
    Unpause(Reply<()>),
    Rename {
        name: String,
        reply: Reply<()>,
    },
    Connect {
        network: Which,
        settings: Box<EndpointSettings>,
        reply: Reply<()>,
    },
    Disconnect {
        network: Which,
        reply: Reply<()>,
    },
    Remove {
        options: RemoveOptions,
        name: String,
        reply: Reply<()>,
    },
    Wait {
        condition: WaitCondition,
        sender: oneshot::Sender<WaitResult>,
        subscribed: oneshot::Sender<()>,
    },
    /// Its process has ended and everything that it wrote was read.
    Ended {
        run: u64,
        status: runtime::ExitStatus,
    },
    /// The pause before a restart is over.
    RestartDue {
        run: u64,
    },
    /// New limits and a new restart policy.
    Update {
        host_config: Box<HostConfig>,
        reply: Reply<Updated>,
    },
    /// The kernel killed one of its processes for want of memory.
    OutOfMemory {
        run: u64,
    },
    /// A health check has been run.
    Checked {
        run: u64,
        result: HealthResult,
        heard: oneshot::Sender<()>,
    },
    /// An event of the engine about it.
    Note(Note),
}

/// Why a signal is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `kill`: it may mean the end, then the policy is off.
    Kill,
    /// `stop`.
    Stop,
    /// `restart`: it ends, but comes again.
    Restart,
    /// The engine goes down.
    Shutdown,
}

/// What came of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signalled {
    /// It was sent.
    Sent,
    /// There was no process, but a restart was due; it is called off.
    Cancelled,
    /// There was no process.
    NotRunning,
}

/// An event to be told in order with the others.
pub(crate) enum Note {
    Event { action: String, attributes: Vec<(&'static str, String)> },
}

/// The handle.
pub(crate) struct Container {
    pub(crate) id: String,
    /// Its directory under the data root.
    pub(crate) directory: PathBuf,
    pub(crate) record: watch::Sender<Arc<Record>>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) gate: Gate,
    pub(crate) log: Option<Arc<LogFile>>,
    /// Whether a process lives; followers of the log end with it.
    pub(crate) lives: watch::Sender<bool>,
    pub(crate) process: Mutex<Option<Process>>,
    pub(crate) execs: Mutex<BTreeMap<String, Arc<Exec>>>,
    /// Keeps the layers of its image, and of those that it mounts.
    pub(crate) _leases: Vec<image::Lease>,
}

impl Container {
    /// The handle and the receiving end of its commands.
    pub(crate) fn new(
        record: Record,
        directory: PathBuf,
        leases: Vec<image::Lease>,
    ) -> (Arc<Container>, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(16);
        let id = record.id.clone();
        let path = match record.host_config.log_config.r#type.as_str() {
            "none" => None,
            "local" => Some(directory.join("local-logs").join("container.log")),
            _ => Some(directory.join(format!("{id}-json.log"))),
        };
        let log = path.map(|path| Arc::new(LogFile::new(path, crate::logs::Options::of(&record))));
        let container = Container {
            hub: Arc::new(Hub::new(&directory)),
            gate: Gate::default(),
            log,
            lives: watch::Sender::new(false),
            process: Mutex::default(),
            execs: Mutex::default(),
            record: watch::Sender::new(Arc::new(record)),
            commands,
            directory,
            id,
            _leases: leases,
        };
        (Arc::new(container), receiver)
    }

    /// Its state as of now.
    pub(crate) fn now(&self) -> Arc<Record> {
        self.record.borrow().clone()
    }

    /// Its first process, when it lives.
    pub(crate) fn process(&self) -> Option<Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_process(&self, process: Option<Process>) {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = process;
    }

    pub(crate) fn execs(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Exec>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.directory.join("diff")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// A file of its own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn log_path(&self) -> &Path {
        let log = self.log.as_ref().filter(|_| self.now().host_config.log_config.r#type == "json-file");
        log.map_or(Path::new(""), |log| log.path())
    }

    /// Asks its task.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::not_found(format_args!("No such container: {}", self.id));
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Registers a wait; done when this returns.
    pub(crate) async fn wait(&self, condition: WaitCondition) -> Result<Waiting> {
        let (sender, receiver) = oneshot::channel();
        let (subscribed, done) = oneshot::channel();
        let gone = || Error::not_found(format_args!("No such container: {}", self.id));
        self.commands.send(Command::Wait { condition, sender, subscribed }).await.map_err(|_| gone())?;
        done.await.map_err(|_| gone())?;
        Ok(Waiting(receiver))
    }

    /// Tells an event in order with the others.
    pub(crate) async fn note(&self, action: impl Into<String>, attributes: Vec<(&'static str, String)>) {
        let note = Note::Event { action: action.into(), attributes };
        // A container that is gone has no more events.
        let _ = self.commands.send(Command::Note(note)).await;
    }
}
