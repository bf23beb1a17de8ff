//! A process's standard streams, joined with its log and with clients.

use std::sync::Arc;

use runtime::{Ends, ExitStatus, Process};
use tokio::sync::watch;

use super::input::Gate;
use super::request::StdStream;
use crate::logs::{Hub, LogFile, Source, pump};

/// Moves what the process writes to `hub` and `log`, and what clients write into `gate` to the process. Returns
/// what waits for its end; that is over when everything it wrote has been read.
pub(crate) fn join(
    process: Process,
    hub: &Arc<Hub>,
    gate: &Gate,
    log: Option<&Arc<LogFile>>,
) -> impl Future<Output = ExitStatus> + Send + 'static {
    let ended = watch::Sender::new(false);
    let mut pumps = Vec::new();
    let pumping =
        |source, stream| tokio::spawn(pump(source, stream, hub.clone(), log.cloned(), ended.subscribe()));
    match process.take_stdio() {
        Some(Ends::Pipes { stdin, stdout, stderr }) => {
            pumps.push(pumping(Source::Pipe(stdout), StdStream::Stdout));
            pumps.push(pumping(Source::Pipe(stderr), StdStream::Stderr));
            if let Some(stdin) = stdin {
                let closing = process.clone();
                let close = move || {
                    // When the process is gone, so is its input.
                    let _ = closing.close_stdin();
                };
                tokio::spawn(gate.feed(stdin, close, ended.subscribe()));
            }
        }
        Some(Ends::Terminal(master)) => {
            match master.try_clone() {
                Ok(input) => {
                    tokio::spawn(gate.feed(input, || (), ended.subscribe()));
                }
                Err(error) => tracing::error!("a terminal has no input: {error}"),
            }
            pumps.push(pumping(Source::Terminal(master), StdStream::Stdout));
        }
        None => {}
    }
    async move {
        let status = process.wait().await;
        ended.send_replace(true);
        for pump in pumps {
            let _ = pump.await;
        }
        status
    }
}
