//! QEMU's machine protocol, as far as a power button, a cause of death and a look at a device need it.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

/// A connection to QEMU.
pub(super) struct Qmp {
    commands: tokio::sync::Mutex<OwnedWriteHalf>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// Commands that wait for their answers, by number.
    waiting: HashMap<u64, oneshot::Sender<Value>>,
    last: u64,
    reason: Option<String>,
}

impl Qmp {
    /// Connects and leaves the negotiation mode.
    pub(super) async fn connect(socket: &Path) -> io::Result<Qmp> {
        let (incoming, commands) = connect(socket).await?.into_split();
        let shared = Arc::new(Mutex::new(Shared::default()));
        tokio::spawn(read(incoming, Arc::clone(&shared)));
        let qmp = Qmp { commands: tokio::sync::Mutex::new(commands), shared };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Presses the power button.
    pub(super) async fn power_button(&self) -> io::Result<()> {
        self.execute("system_powerdown", json!({})).await.map(drop)
    }

    /// Whether the guest's driver has taken a device into use.
    pub(super) async fn driver_is_ready(&self, device: &str) -> io::Result<bool> {
        let path = format!("/machine/peripheral/{device}/virtio-backend");
        Ok(says_driver_ok(&self.execute("x-query-virtio-status", json!({ "path": path })).await?))
    }

    /// Why QEMU shut the machine down, in its own word (`guest-shutdown`, `guest-reset`, `guest-panic`, …).
    pub(super) fn reason(&self) -> Option<String> {
        lock(&self.shared).reason.clone()
    }

    async fn execute(&self, command: &str, arguments: Value) -> io::Result<Value> {
        let (reply, answer) = oneshot::channel();
        let number = {
            let mut shared = lock(&self.shared);
            shared.last += 1;
            let number = shared.last;
            shared.waiting.insert(number, reply);
            number
        };
        let line = json!({ "execute": command, "arguments": arguments, "id": number });
        self.commands.lock().await.write_all(format!("{line}\n").as_bytes()).await?;
        let answer = answer.await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        match answer.get("error") {
            Some(error) => Err(io::Error::other(error["desc"].as_str().unwrap_or("QEMU refused").to_owned())),
            None => Ok(answer["return"].clone()),
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Hands answers to those who wait for them. What waits when QEMU ends hears of it by the dropped channel.
async fn read(incoming: OwnedReadHalf, shared: Arc<Mutex<Shared>>) {
    let mut lines = BufReader::new(incoming).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let mut shared = lock(&shared);
        if let Some(reason) = shutdown_reason(&message) {
            shared.reason = Some(reason);
        }
        if let Some(reply) = message["id"].as_u64().and_then(|number| shared.waiting.remove(&number)) {
            let _ = reply.send(message);
        }
    }
    lock(&shared).waiting.clear();
}

fn shutdown_reason(event: &Value) -> Option<String> {
    (event["event"] == "SHUTDOWN").then(|| event["data"]["reason"].as_str().unwrap_or("unknown").to_owned())
}

/// Each status is its name with an explanation behind it.
fn says_driver_ok(status: &Value) -> bool {
    let names = status["status"]["statuses"].as_array();
    names.is_some_and(|names| {
        names.iter().filter_map(Value::as_str).any(|name| name.starts_with("VIRTIO_CONFIG_S_DRIVER_OK"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shutdown_has_a_reason() {
        let event = json!({ "timestamp": {}, "event": "SHUTDOWN", "data": { "guest": true, "reason": "guest-reset" } });
        assert_eq!(shutdown_reason(&event).as_deref(), Some("guest-reset"));
        assert_eq!(shutdown_reason(&json!({ "event": "RESUME" })), None);
        assert_eq!(shutdown_reason(&json!({ "return": {} })), None);
    }

    #[test]
    fn a_driver_is_ready_when_the_device_says_so() {
        let status = |names: &[&str]| json!({ "status": { "statuses": names } });
        let found = "VIRTIO_CONFIG_S_DRIVER: Guest OS compatible with device";
        assert!(!says_driver_ok(&status(&[found])));
        assert!(says_driver_ok(&status(&[found, "VIRTIO_CONFIG_S_DRIVER_OK: Driver setup and ready"])));
        assert!(!says_driver_ok(&json!({})));
    }

    #[tokio::test]
    async fn an_answer_finds_its_command_among_events() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (incoming, mut outgoing) = stream.into_split();
            outgoing.write_all(b"{\"QMP\": {}}\n").await.unwrap();
            let mut lines = BufReader::new(incoming).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let command: Value = serde_json::from_str(&line).unwrap();
                let answer = match command["execute"].as_str().unwrap() {
                    "system_powerdown" => json!({ "error": { "desc": "no button" }, "id": command["id"] }),
                    _ => json!({ "return": {}, "id": command["id"] }),
                };
                let text = format!("{{\"event\": \"POWERDOWN\"}}\n{answer}\n");
                outgoing.write_all(text.as_bytes()).await.unwrap();
            }
        });
        let qmp = Qmp::connect(&path).await.unwrap();
        assert_eq!(qmp.power_button().await.unwrap_err().to_string(), "no button");
        served.abort();
    }
}
