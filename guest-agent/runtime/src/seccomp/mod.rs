//! System call filters: a policy in Docker's terms becomes a classic BPF program, without libseccomp.

use crate::capabilities::CapSets;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The profile is not JSON of the known shape.
    #[error("decoding seccomp profile failed")]
    Json {
        /// What the parser says.
        source: serde_json::Error,
    },
    /// An action or operator is none that the kernel or libseccomp knows.
    #[error("unknown {what} `{name}` in seccomp profile")]
    Unknown {
        /// `action` or `operator`.
        what: &'static str,
        /// As the profile spells it.
        name: String,
    },
    /// The profile cannot be one program: too many instructions.
    #[error("seccomp profile needs {instructions} instructions, the kernel takes 4096")]
    TooLong {
        /// How many it would need.
        instructions: usize,
    },
}

/// Whose system calls a filter judges: the machine's own and its 32-bit companion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// x86-64 with x32 and i386.
    X86_64,
    /// aarch64 with 32-bit ARM.
    Aarch64,
}

impl Arch {
    /// The architecture this program was built for.
    pub const NATIVE: Arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };
}
