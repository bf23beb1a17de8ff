//! System call filters: a policy in Docker's terms becomes a classic BPF program, without libseccomp.
//!
//! ```text
//! profile (JSON) ─┐
//!                 ├→ Policy ─→ per ABI: number → outcome ─→ balanced search + conditions ─→ sock_filter bytes
//! default table  ─┘
//! ```
//!
//! A filter judges the machine's own ABI and its companions (i386 and x32, 32-bit ARM), each by its own
//! numbers; any other kills. Numbers newer than the newest that a policy names answer `ENOSYS`, not the default, as
//! runc arranges it: a C library that probes for a new call then falls back instead of failing.

mod bpf;
mod default;
mod names;
mod policy;
mod profile;

pub use policy::Arch;

use crate::capabilities::CapSets;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The profile is not JSON of the known shape.
    #[error("decoding seccomp profile failed: {source}")]
    Json {
        /// What the parser says; part of the message, as clients show one sentence.
        source: serde_json::Error,
    },
    /// An action, operator, architecture or kernel version is none that we know.
    #[error("unknown {what} `{name}` in seccomp profile")]
    Unknown {
        /// What kind of word.
        what: &'static str,
        /// As the profile spells it.
        name: String,
    },
    /// A condition names an argument that system calls do not have.
    #[error("seccomp profile names argument {index} of `{syscall}`, system calls have six")]
    NoSuchArgument {
        /// The argument's index.
        index: u32,
        /// The system call.
        syscall: String,
    },
    /// The profile cannot be one program: too many instructions.
    #[error("seccomp profile needs {instructions} instructions, the kernel takes 4096")]
    TooLong {
        /// How many it would need.
        instructions: usize,
    },
}

/// Docker's default policy for a process with these capabilities: `sock_filter` bytes to load.
pub fn default_filter(capabilities: &CapSets, arch: Arch) -> Vec<u8> {
    // The default table is far below the kernel's limit for every set of capabilities; a test holds it there.
    bpf::assemble(&default::policy(capabilities.bounding, arch)).unwrap_or_default()
}

/// A profile in Docker's JSON format for a process with these capabilities: `sock_filter` bytes to load.
pub fn compile(profile_json: &str, capabilities: &CapSets) -> Result<Vec<u8>, SeccompError> {
    compile_for(profile_json, capabilities, Arch::NATIVE)
}

fn compile_for(profile_json: &str, capabilities: &CapSets, arch: Arch) -> Result<Vec<u8>, SeccompError> {
    bpf::assemble(&profile::read(profile_json, capabilities.bounding, arch)?)
}

#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod tests;
