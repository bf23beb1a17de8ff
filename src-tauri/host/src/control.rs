//! The owner's control socket: how another process of ours asks for a start or stop, and follows the status.
//!
//! One request per connection, as a line of JSON; the answers are lines too. The Docker API has no words for the
//! life of the VM, which is why this exists at all.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::docker::socket;
use crate::model::{Failure, FailureKind, VmStatus};
use crate::vm::machine::Machine;

/// What may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Request {
    Start,
    Stop,
    Watch,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// The start has begun: the status of this revision says so.
    Started(u64),
    /// Nothing runs any more.
    Stopped,
    Status(Box<VmStatus>),
    Failed(Failure),
}

/// Serves the socket until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    path: std::path::PathBuf,
    _tasks: JoinSet<()>,
    closing: CancellationToken,
    /// Ends when nobody takes requests any more and every one that came in was answered.
    answered: mpsc::Receiver<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Server {
    pub(crate) async fn open(
        path: &Path,
        machine: Machine,
        status: watch::Receiver<VmStatus>,
    ) -> Result<Server, Failure> {
        let listener = socket::bind(path).await?;
        let mut tasks = JoinSet::new();
        let (unanswered, answered) = mpsc::channel(1);
        let closing = CancellationToken::new();
        let closed = closing.clone();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => {
                        open.spawn(serve(stream, machine.clone(), status.clone(), unanswered.clone()));
                    }
                    Some(_) = open.join_next() => {}
                    () = closed.cancelled() => break,
                }
            }
            drop(unanswered);
            while open.join_next().await.is_some() {}
        });
        Ok(Server { path: path.to_owned(), _tasks: tasks, closing, answered })
    }

    /// Takes no more requests, and waits until those that came in were answered.
    pub(crate) async fn close(mut self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        self.closing.cancel();
        let _ = tokio::time::timeout(PATIENCE, self.answered.recv()).await;
    }
}

async fn serve(
    stream: UnixStream,
    machine: Machine,
    mut status: watch::Receiver<VmStatus>,
    unanswered: mpsc::Sender<()>,
) {
    /// Longer than any request.
    const MAX_REQUEST: u64 = 1024;
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    if BufReader::new(reader.take(MAX_REQUEST)).read_line(&mut line).await.is_err() {
        return;
    }
    let Ok(request) = serde_json::from_str(&line) else { return };
    let answer = match request {
        Request::Start => machine.start().await.map_or_else(Answer::Failed, Answer::Started),
        Request::Stop => machine.stop().await.map_or_else(Answer::Failed, |()| Answer::Stopped),
        Request::Watch => loop {
            let now = status.borrow_and_update().clone();
            if write(&mut writer, &Answer::Status(Box::new(now))).await.is_err()
                || status.changed().await.is_err()
            {
                return;
            }
        },
    };
    let _ = write(&mut writer, &answer).await;
    drop(unanswered);
    if request == Request::Stop {
        // Whoever waits for the end of a process that owns the VM, and ends with it, waits for this connection's end.
        std::future::pending::<()>().await;
    }
}

async fn write(writer: &mut (impl tokio::io::AsyncWrite + Unpin), answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

/// A connection to the owner.
pub(crate) struct Client {
    lines: Lines<BufReader<UnixStream>>,
}

impl Client {
    /// Connects and asks. `None` when there is no owner.
    pub(crate) async fn ask(socket: &Path, request: Request) -> Result<Option<Client>, Failure> {
        let lost = |error| Failure::system("the process that owns the VM cannot be reached", error);
        let mut stream = match UnixStream::connect(socket).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(lost(error)),
        };
        let mut line = serde_json::to_vec(&request).map_err(|error| lost(error.into()))?;
        line.push(b'\n');
        stream.write_all(&line).await.map_err(lost)?;
        Ok(Some(Client { lines: BufReader::new(stream).lines() }))
    }

    async fn answer(&mut self) -> Option<Answer> {
        let line = self.lines.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }

    /// To `Start`: the revision that says so.
    pub(crate) async fn started(mut self) -> Result<u64, Failure> {
        match self.answer().await {
            Some(Answer::Started(revision)) => Ok(revision),
            other => Err(unexpected(other)),
        }
    }

    /// To `Stop`: it is done. The connection stays open until its owner's process ends.
    pub(crate) async fn stopped(&mut self) -> Result<(), Failure> {
        match self.answer().await {
            Some(Answer::Stopped) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// The owner's process has ended.
    pub(crate) async fn closed(&mut self) {
        while let Ok(Some(_)) = self.lines.next_line().await {}
    }

    /// To `Watch`: the next status; none when the owner is gone.
    pub(crate) async fn status(&mut self) -> Option<VmStatus> {
        match self.answer().await {
            Some(Answer::Status(status)) => Some(*status),
            _ => None,
        }
    }
}

fn unexpected(answer: Option<Answer>) -> Failure {
    match answer {
        Some(Answer::Failed(failure)) => failure,
        _ => Failure::new(FailureKind::System, "the process that owns the VM ended before it answered"),
    }
}
