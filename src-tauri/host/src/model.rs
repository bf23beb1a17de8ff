//! What the window and the command are told of the VM. The window's TypeScript types are generated from here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Which implementation of [`crate::hypervisor::Hypervisor`] carries the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum HypervisorKind {
    /// Apple's Virtualization.framework: the product on a Mac.
    Apple,
    /// QEMU, with KVM or software emulation: the same VM image on Linux.
    Qemu,
    /// No VM: the engine runs straight on this Linux machine.
    Native,
}

/// The steps of a start, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Image files checked, data disk made or grown, sockets bound.
    Prepare,
    /// Power on, until the kernel's first word.
    Boot,
    /// The guest agent answers on its control port.
    Agent,
    /// The engine answers the Docker API.
    Engine,
}

impl Stage {
    /// All stages, in their order.
    pub const ALL: [Stage; 4] = [Stage::Prepare, Stage::Boot, Stage::Agent, Stage::Engine];
}

/// A stage that is done, and how long it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct StageReport {
    /// Which stage.
    pub stage: Stage,
    /// Milliseconds that this stage took.
    #[ts(type = "number")]
    pub took_ms: u64,
    /// Milliseconds from the begin of the start to the end of this stage.
    #[ts(type = "number")]
    pub elapsed_ms: u64,
}

/// Where the VM stands. Each state carries exactly what exists in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum VmState {
    /// Nothing runs.
    Stopped,
    /// On its way up.
    Starting {
        /// What is being done now.
        stage: Stage,
        /// 1 for the first try; a boot that failed is retried once.
        attempt: u32,
    },
    /// The Docker API answers.
    Running,
    /// On its way down.
    Stopping,
    /// Ended by itself; will be started again after a pause.
    Restarting {
        /// Milliseconds that the pause lasts.
        #[ts(type = "number")]
        delay_ms: u64,
        /// Why it ended.
        cause: Failure,
    },
    /// Did not start, or ended too often.
    Failed {
        /// Why.
        cause: Failure,
    },
}

/// What kind of thing went wrong: decides which repair is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum FailureKind {
    /// A program or file that the VM needs isn't there.
    MissingDependency,
    /// The VM's kernel or initramfs is missing or isn't what its manifest says.
    BadImage,
    /// Not enough room for the data disk.
    NoDiskSpace,
    /// The socket, or the whole home, is in use by another program.
    Busy,
    /// The VM started and then gave no answer, or its kernel panicked.
    BootFailed,
    /// The VM ended while it ran.
    Crashed,
    /// Anything else: a file that can't be written, a system call refused.
    System,
}

/// Why the VM isn't running, as one clear sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// One sentence for the user: what is wrong and what to do.
    pub message: String,
    /// More for the curious: the console's last lines, the source of an error.
    pub details: Option<String>,
}

impl Failure {
    /// A failure without details.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Failure { kind, message: message.into(), details: None }
    }

    /// A system failure: what was tried, and the error as details.
    pub fn system(message: impl Into<String>, error: impl std::fmt::Display) -> Self {
        let message = message.into();
        Failure { kind: FailureKind::System, message: format!("{message}: {error}"), details: None }
    }

    /// Adds details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }
}

/// All that is known of the VM at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmStatus {
    /// Grows with every change; a later one has seen all that an earlier one has.
    #[ts(type = "number")]
    pub revision: u64,
    /// Where the VM stands.
    pub vm: VmState,
    /// Since when, in milliseconds since 1970.
    #[ts(type = "number")]
    pub since_ms: i64,
    /// Stages that the running (or last) start has done.
    pub stages: Vec<StageReport>,
    /// Which hypervisor carries it.
    pub hypervisor: HypervisorKind,
    /// What executes the guest's instructions: `kvm`, `tcg`, `apple`; none without a VM.
    pub accelerator: Option<String>,
    /// Process that owns the VM on this host.
    pub owner_pid: u32,
    /// Processors given to the VM.
    pub cpus: u32,
    /// Memory given to the VM.
    pub memory_mib: u32,
    /// The data disk, once it exists.
    pub disk: Option<DiskStatus>,
    /// Where Docker clients connect.
    #[ts(type = "string")]
    pub socket: PathBuf,
    /// The VM's console log.
    #[ts(type = "string")]
    pub console: PathBuf,
    /// Version of the guest agent, once it has answered.
    pub agent_version: Option<String>,
    /// Boots that failed and were retried since this process began.
    pub failed_boots: u32,
    /// Times that the VM was started again after it ended by itself.
    pub restarts: u32,
    /// What works but not as it should, one sentence each.
    pub warnings: Vec<String>,
}

/// The data disk's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct DiskStatus {
    /// Its file.
    #[ts(type = "string")]
    pub path: PathBuf,
    /// Size that the VM sees, in bytes.
    #[ts(type = "number")]
    pub size: u64,
    /// Bytes that the file really takes on the host.
    #[ts(type = "number")]
    pub used: u64,
}
