//! The control port: the host's questions about the guest itself, and its wish that it stop.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use protocol::{
    DiskState, DiskStatus, EngineStatus, GuestReply, GuestStatus, HostRequest, MemoryStatus, Phase, Stage,
};
use rustix::time::{ClockId, Timespec, clock_settime};

use super::Stream;
use crate::init::{self, console, record};

const TAIL_LINES: usize = 200;
/// Clocks nearer than this are left alone: a step is worse for programs than a small difference.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(500);

/// What the control port answers from.
pub(crate) struct Control {
    record: record::Record,
    restarts: u32,
    ready_at: AtomicU64,
    stopping: AtomicBool,
    /// How long containers may take to stop, in milliseconds.
    grace: AtomicU64,
}

impl Control {
    /// Of an engine that has just been started.
    pub(crate) fn new() -> Arc<Control> {
        Arc::new(Control {
            record: record::Record::load(),
            restarts: record::count_engine_start(),
            ready_at: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            grace: AtomicU64::new(1000),
        })
    }

    /// The API answers from now on.
    pub(crate) fn ready(&self) {
        let now = record::uptime_ms();
        self.ready_at.store(now, Ordering::Relaxed);
        tracing::info!("api at {now} ms");
    }

    /// How long the host gave containers to stop.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace.load(Ordering::Relaxed))
    }

    /// The VM is to stop: the first process hears of it as any first process does.
    pub(crate) fn shut_down(&self) {
        if !self.stopping.swap(true, Ordering::Relaxed)
            && let Err(error) = sys::signal::send(1, rustix::process::Signal::TERM.as_raw())
        {
            tracing::error!(%error, "cannot ask the first process to stop");
        }
    }

    /// Serves one connection.
    pub(crate) async fn serve(self: Arc<Self>, mut stream: Stream) {
        let reply = match super::opening(&mut stream).await {
            Ok(request) => {
                let this = Arc::clone(&self);
                let answered = tokio::task::spawn_blocking(move || this.answer(&request)).await;
                answered.unwrap_or_else(|error| GuestReply::Failed { message: error.to_string() })
            }
            Err(error) => GuestReply::Failed { message: format!("the request was not understood: {error}") },
        };
        if stream.send(&reply).await.is_ok() {
            super::await_close(stream).await;
        }
    }

    fn answer(&self, request: &HostRequest) -> GuestReply {
        match request {
            HostRequest::Hello { version, unix_nanos } => {
                set_clock(*unix_nanos);
                if *version != protocol::VERSION {
                    tracing::warn!("the host speaks version {version} of the control messages");
                }
                let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
                let agent = env!("CARGO_PKG_VERSION").to_owned();
                GuestReply::Hello { version: protocol::VERSION, agent, kernel }
            }
            HostRequest::SetClock { unix_nanos } => {
                set_clock(*unix_nanos);
                GuestReply::Done
            }
            HostRequest::Shutdown { grace_ms } => {
                self.grace.store(*grace_ms, Ordering::Relaxed);
                self.shut_down();
                GuestReply::Done
            }
            HostRequest::Status => GuestReply::Status(Box::new(self.status())),
            HostRequest::ConsoleTail => match console::tail(TAIL_LINES) {
                Ok(lines) => GuestReply::ConsoleTail { lines: newest_that_fit(lines) },
                Err(error) => GuestReply::Failed { message: format!("cannot read the kernel log: {error}") },
            },
        }
    }

    fn status(&self) -> GuestStatus {
        let ready_at = self.ready_at.load(Ordering::Relaxed);
        let usable = matches!(self.record.disk, DiskState::Ready { .. });
        let phase = if self.stopping.load(Ordering::Relaxed) {
            Phase::Stopping
        } else if ready_at != 0 {
            Phase::Ready
        } else if usable {
            Phase::Starting
        } else {
            Phase::Refused
        };
        let mut stages = self.record.stages.clone();
        if ready_at != 0 {
            stages.push(Stage { name: "api".to_owned(), at_ms: ready_at });
        }
        let (size, free) = if usable { space(Path::new(init::DATA)) } else { (0, 0) };
        GuestStatus {
            phase,
            uptime_ms: record::uptime_ms(),
            stages,
            memory: memory(),
            disk: DiskStatus { state: self.record.disk.clone(), size, free },
            engine: EngineStatus { running: ready_at != 0, restarts: self.restarts },
        }
    }
}

fn set_clock(unix_nanos: u64) {
    let wanted = Duration::from_nanos(unix_nanos);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    if now.abs_diff(wanted) < CLOCK_TOLERANCE {
        return;
    }
    let time = Timespec { tv_sec: wanted.as_secs() as i64, tv_nsec: wanted.subsec_nanos().into() };
    match clock_settime(ClockId::Realtime, time) {
        Ok(()) => tracing::info!("the clock was {} ms off and is set", now.abs_diff(wanted).as_millis()),
        Err(error) => tracing::error!(%error, "cannot set the clock"),
    }
}

/// Size and free bytes of a file system.
fn space(path: &Path) -> (u64, u64) {
    rustix::fs::statvfs(path)
        .map(|space| (space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize))
        .unwrap_or_default()
}

fn memory() -> MemoryStatus {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let agent: u64 = ["1", "self"]
        .iter()
        .filter_map(|process| fs::read_to_string(format!("/proc/{process}/status")).ok())
        .map(|status| kilobytes(&status, "VmRSS:"))
        .sum();
    MemoryStatus { total: kilobytes(&info, "MemTotal:"), available: kilobytes(&info, "MemAvailable:"), agent }
}

/// A field in kB of a file under `/proc`, in bytes.
fn kilobytes(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// One message has bounded room; the newest lines matter most.
fn newest_that_fit(lines: Vec<String>) -> Vec<String> {
    let mut room = protocol::MAX_MESSAGE - 1024;
    let mut kept: Vec<String> = lines
        .into_iter()
        .rev()
        .take_while(|line| {
            // In JSON a byte becomes six at worst, but a console has few that do: twice is generous.
            let fits = line.len() * 2 + 4 <= room;
            room = room.saturating_sub(line.len() * 2 + 4);
            fits
        })
        .collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_read_in_bytes() {
        let text = "MemTotal:        1000 kB\nMemAvailable:     600 kB\n";
        assert_eq!(kilobytes(text, "MemAvailable:"), 600 * 1024);
        assert_eq!(kilobytes(text, "Absent:"), 0);
    }

    #[test]
    fn a_console_tail_keeps_the_newest_lines_that_fit_one_message() {
        let lines: Vec<String> = (0..1000).map(|number| format!("{number:0>200}")).collect();
        let kept = newest_that_fit(lines);
        assert!(kept.len() < 1000 && kept.last().is_some_and(|line| line.ends_with("999")));
        assert!(
            serde_json::to_vec(&GuestReply::ConsoleTail { lines: kept }).unwrap().len()
                < protocol::MAX_MESSAGE
        );
    }
}
