//! QEMU's machine protocol, as far as a power button and a cause of death need it.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;

/// A connection to QEMU. Answers are not waited for: what a command did shows in the machine.
pub(super) struct Qmp {
    commands: tokio::sync::Mutex<OwnedWriteHalf>,
    reason: Arc<Mutex<Option<String>>>,
}

impl Qmp {
    /// Connects and leaves the negotiation mode.
    pub(super) async fn connect(socket: &Path) -> io::Result<Qmp> {
        let (events, mut commands) = connect(socket).await?.into_split();
        write(&mut commands, &json!({ "execute": "qmp_capabilities" })).await?;
        let reason = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&reason);
        tokio::spawn(async move {
            let mut lines = BufReader::new(events).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(found) = shutdown_reason(&line)
                    && let Ok(mut reason) = noted.lock()
                {
                    *reason = Some(found);
                }
            }
        });
        Ok(Qmp { commands: tokio::sync::Mutex::new(commands), reason })
    }

    /// Presses the power button.
    pub(super) async fn power_button(&self) -> io::Result<()> {
        write(&mut *self.commands.lock().await, &json!({ "execute": "system_powerdown" })).await
    }

    /// Why QEMU shut the machine down, in its own word (`guest-shutdown`, `guest-reset`, `guest-panic`, …).
    pub(super) fn reason(&self) -> Option<String> {
        self.reason.lock().ok().and_then(|reason| reason.clone())
    }
}

/// A socket's file is there a moment before anybody listens.
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let began = Instant::now();
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && began.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            other => return other,
        }
    }
}

async fn write(to: &mut OwnedWriteHalf, command: &Value) -> io::Result<()> {
    to.write_all(format!("{command}\n").as_bytes()).await
}

fn shutdown_reason(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    (event["event"] == "SHUTDOWN").then(|| event["data"]["reason"].as_str().unwrap_or("unknown").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shutdown_has_a_reason() {
        let line =
            r#"{"timestamp": {}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#;
        assert_eq!(shutdown_reason(line).as_deref(), Some("guest-reset"));
        assert_eq!(shutdown_reason(r#"{"event": "RESUME"}"#), None);
        assert_eq!(shutdown_reason(r#"{"return": {}}"#), None);
    }
}
