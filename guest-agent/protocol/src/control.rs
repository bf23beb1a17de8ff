//! The control port: what the host may ask of the guest's first process.

use serde::{Deserialize, Serialize};

/// The version of these messages. A host that finds another one refuses the VM image with a clear word.
pub const VERSION: u32 = 1;

/// First and only message of the host on [`CONTROL`](crate::ports::CONTROL).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostRequest {
    /// Who is there? Sets the clock too, since a VM starts without one that it can trust.
    Hello {
        /// The host's [`VERSION`].
        version: u32,
        /// The host's time since 1970.
        unix_nanos: u64,
    },
    /// The host woke up, or found the clocks apart.
    SetClock {
        /// The host's time since 1970.
        unix_nanos: u64,
    },
    /// Stop containers, unmount and power off. The reply comes first; the VM's end is the proof.
    Shutdown {
        /// How long containers may take before they are killed.
        grace_ms: u64,
    },
    /// How is the guest?
    Status,
    /// The last lines of the guest's console log.
    ConsoleTail,
}

/// The guest's answer to a [`HostRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestReply {
    /// To `Hello`.
    Hello {
        /// The guest's [`VERSION`].
        version: u32,
        /// The version of the guest agent.
        agent: String,
        /// The kernel's release.
        kernel: String,
    },
    /// It is done (or, for `Shutdown`, it has begun).
    Done,
    /// To `Status`.
    Status(Box<GuestStatus>),
    /// To `ConsoleTail`.
    ConsoleTail {
        /// The lines, the newest last.
        lines: Vec<String>,
    },
    /// It could not be done.
    Failed {
        /// Why, in words for a person.
        message: String,
    },
}

/// How the guest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestStatus {
    /// Where in its life the guest is.
    pub phase: Phase,
    /// Milliseconds since the kernel started.
    pub uptime_ms: u64,
    /// The stages of this boot, in order.
    pub stages: Vec<Stage>,
    /// The VM's memory.
    pub memory: MemoryStatus,
    /// The data disk.
    pub disk: DiskStatus,
    /// The engine process.
    pub engine: EngineStatus,
}

/// Where in its life the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The engine does not answer yet.
    Starting,
    /// The engine answers.
    Ready,
    /// The guest will not come up by itself; the disk's state says why.
    Refused,
    /// Containers are stopping; the VM powers off next.
    Stopping,
}

/// One step of the boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What had been reached.
    pub name: String,
    /// When, in milliseconds since the kernel started.
    pub at_ms: u64,
}

/// The VM's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// All that the kernel has.
    pub total: u64,
    /// What programs could still have.
    pub available: u64,
    /// What the guest agent's own processes hold.
    pub agent: u64,
}

/// The data disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Whether it can be used.
    pub state: DiskState,
    /// Size of its file system in bytes, 0 if there is none.
    pub size: u64,
    /// Bytes that are free in it.
    pub free: u64,
}

/// Whether the data disk can be used. Nothing but `Ready` lets the engine start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskState {
    /// Not looked for yet.
    Unknown,
    /// Mounted.
    Ready {
        /// This boot wrote the file system on a blank disk.
        formatted: bool,
    },
    /// No disk with our serial number is attached.
    Missing,
    /// It holds something that is not ours. It was not touched.
    Foreign {
        /// What was found.
        message: String,
    },
    /// It is ours but damaged. It was not touched.
    Damaged {
        /// What was found.
        message: String,
    },
}

/// The engine process, as its supervisor knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// The process is there.
    pub running: bool,
    /// How often it crashed and was started again.
    pub restarts: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_status_survives_json() {
        let status = GuestReply::Status(Box::new(GuestStatus {
            phase: Phase::Refused,
            uptime_ms: 1800,
            stages: vec![Stage { name: "init".into(), at_ms: 1500 }],
            memory: MemoryStatus::default(),
            disk: DiskStatus {
                state: DiskState::Damaged { message: "superblock has the error flag".into() },
                size: 0,
                free: 0,
            },
            engine: EngineStatus::default(),
        }));
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<GuestReply>(&text).unwrap(), status);
    }
}
