//! What the first process knows of this boot, kept in a file for the engine's process to tell the host.

use std::fs;
use std::path::PathBuf;

use protocol::{DiskState, Stage};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::RUN;

/// The stages reached and the disk's state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) stages: Vec<Stage>,
    pub(crate) disk: DiskState,
}

impl Default for Record {
    fn default() -> Self {
        Record { stages: Vec::new(), disk: DiskState::Unknown }
    }
}

impl Record {
    /// Notes, on the console too, that a stage is reached.
    pub(crate) fn reached(&mut self, name: &str) {
        let at_ms = uptime_ms();
        tracing::info!("{name} at {at_ms} ms");
        self.stages.push(Stage { name: name.to_owned(), at_ms });
    }

    pub(crate) fn save(&self) -> std::io::Result<()> {
        fs::create_dir_all(RUN)?;
        fs::write(path(), serde_json::to_vec(self)?)
    }

    /// What the first process saved; nothing if it did not.
    pub(crate) fn load() -> Record {
        fs::read(path()).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }
}

fn path() -> PathBuf {
    PathBuf::from(RUN).join("boot.json")
}

/// Counts the engine's starts of this boot; says how many there were before.
pub(crate) fn count_engine_start() -> u32 {
    let path = PathBuf::from(RUN).join("engine-starts");
    let before = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok()).unwrap_or(0u32);
    // A count that cannot be kept is worth no failure.
    let _ = fs::write(&path, (before + 1).to_string());
    before
}

/// Milliseconds since the kernel started.
pub(crate) fn uptime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}
