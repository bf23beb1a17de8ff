//! What callers ask of containers, and the handles they get back.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::spec::{Config, HostConfig, NetworkingConfig, record};
use crate::filters::Filters;
use crate::time::Time;

/// A stream the engine hands out: it owns what it needs and may be moved to any task.
pub type BoxStream<T> = Pin<Box<dyn Stream<Item = T> + Send + 'static>>;

/// `POST /containers/create`.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// Wished name, with or without its slash.
    pub name: Option<String>,
    /// The portable half.
    pub config: Config,
    /// The host's half.
    pub host_config: HostConfig,
    /// The networks.
    pub networking: NetworkingConfig,
    /// `os[/arch[/variant]]` of the image.
    pub platform: Option<String>,
}

/// A created container.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    /// Its id.
    pub id: String,
    /// What can't be honoured, a sentence each.
    pub warnings: Vec<String>,
}

/// Outcome of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It runs now.
    Now,
    /// It ran before (304).
    Already,
}

/// Outcome of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It is stopped now.
    Now,
    /// It wasn't running (304).
    Already,
}

/// `DELETE /containers/{name}`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Kill it first.
    pub force: bool,
    /// With its anonymous volumes.
    pub volumes: bool,
    /// Only the legacy link of that name.
    pub link: bool,
}

/// What a wait waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// It doesn't run; at once when it doesn't run now.
    #[default]
    NotRunning,
    /// It ends the next time, after this call.
    NextExit,
    /// It is removed.
    Removed,
}

impl WaitCondition {
    /// The API's word; empty is the default.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "not-running" => Some(WaitCondition::NotRunning),
            "next-exit" => Some(WaitCondition::NextExit),
            "removed" => Some(WaitCondition::Removed),
            _ => None,
        }
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitResult {
    /// The exit code.
    pub status_code: i64,
    /// Why the container is no more, when waiting itself failed.
    pub error: Option<String>,
}

/// A wait that was registered before the call returned: nothing after it can be missed.
#[derive(Debug)]
pub struct Waiting(pub(crate) oneshot::Receiver<WaitResult>);

impl Waiting {
    /// The result, when it comes.
    pub async fn result(self) -> WaitResult {
        self.0.await.unwrap_or_else(|_| WaitResult {
            status_code: -1,
            error: Some("the engine stopped while waiting".to_owned()),
        })
    }
}

/// `GET /containers/json`.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Those that don't run, too.
    pub all: bool,
    /// The last so many created, whatever their state.
    pub limit: Option<usize>,
    /// With sizes.
    pub size: bool,
    /// Filters.
    pub filters: Filters,
}

/// Which of a container's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StdStream {
    /// stdout; all output of a terminal.
    Stdout,
    /// stderr.
    Stderr,
}

/// Bytes a container wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// Where to.
    pub stream: StdStream,
    /// What.
    pub bytes: Bytes,
}

/// `GET /containers/{name}/logs`.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Go on with what comes.
    pub follow: bool,
    /// stdout.
    pub stdout: bool,
    /// stderr.
    pub stderr: bool,
    /// Not before.
    pub since: Option<Time>,
    /// Not after.
    pub until: Option<Time>,
    /// Each line behind its time.
    pub timestamps: bool,
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// Each line behind the driver's attributes.
    pub details: bool,
}

/// An open log.
pub struct Logs {
    /// The container has a terminal: don't multiplex.
    pub tty: bool,
    /// One chunk per line.
    pub output: BoxStream<OutputChunk>,
}

/// `POST /containers/{name}/attach`.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    /// Keys that detach; `None` is ctrl-p ctrl-q.
    pub detach_keys: Option<String>,
    /// First what the log holds.
    pub logs: bool,
    /// Then what comes.
    pub stream: bool,
    /// With stdin.
    pub stdin: bool,
    /// With stdout.
    pub stdout: bool,
    /// With stderr.
    pub stderr: bool,
}

/// A client's place at a running process.
pub struct Attachment {
    /// It has a terminal: don't multiplex.
    pub tty: bool,
    /// What the process writes, until it ends or the client detaches.
    pub output: BoxStream<OutputChunk>,
    /// Where the client's bytes go, when it asked for stdin.
    pub input: Option<super::input::Input>,
}

record! {
    /// `POST /containers/{name}/exec`.
    pub struct ExecConfig {
        /// As whom.
        pub user: String,
        /// With all rights.
        pub privileged: bool,
        /// With a terminal.
        pub tty: bool,
        /// Height and width.
        pub console_size: Option<[u16; 2]>,
        /// With stdin.
        pub attach_stdin: bool,
        /// With stderr.
        pub attach_stderr: bool,
        /// With stdout.
        pub attach_stdout: bool,
        /// Keys that detach.
        pub detach_keys: String,
        /// More environment.
        pub env: Option<Vec<String>>,
        /// Working directory.
        pub working_dir: String,
        /// What to run.
        pub cmd: Option<super::spec::Words>,
    }
}

/// `POST /exec/{id}/start`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExecStart {
    /// Don't attach.
    pub detach: bool,
    /// With a terminal; must be what create said.
    pub tty: bool,
    /// Height and width.
    pub console_size: Option<[u16; 2]>,
}
