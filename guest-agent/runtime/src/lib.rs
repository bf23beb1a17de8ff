//! One container from one plan: namespaces, cgroup, root file system, capabilities, seccomp, terminal.
//!
//! ```text
//!  Runtime::launch ──▶ supervisor::Client::spawn ──▶ clone3 ──▶ container_init_main ──▶ execve
//!    cgroup, pipes,      (the supervisor's side)      born in      root file system,       the container's
//!    plan in a memfd                                  its cgroup   mounts, user, caps      program
//!        ▲                                                              │
//!        └──────────── what failed, or the end of the stream ───────────┘
//! ```
//!
//! Everything here is plain blocking Rust, quick enough for `spawn_blocking`; only [`Process::wait`] is asynchronous.
//! The root file system is mounted by container-init in the container's own mount namespace: the engine's mount
//! table does not grow with the number of containers, and nothing has to be unmounted after a crash. The engine sees
//! it through [`Process::root`] while the container runs and through [`Runtime::mount_rootfs`] otherwise.
//!
//! A container's root file system is hostile. No path in it is ever resolved by name from the outside: everything goes
//! through `openat2` with `RESOLVE_IN_ROOT`, and mounts are attached to the opened descriptors.

pub mod capabilities;
mod cgroup;
mod error;
mod host;
mod init;
mod plan;
mod process;
mod runtime;
pub mod seccomp;
mod start;
mod view;

pub use cgroup::{Cgroup, CpuStats, DeviceIo, MemoryStats, PidStats, Stats as CgroupStats};
pub use error::{During, Failure, LaunchError};
pub use host::HostFacts;
pub use init::container_init_main;
pub use plan::{
    DEFAULT_SHM_SIZE, Device, DeviceKind, DeviceLimit, DeviceRule, ExecPlan, InvalidTmpfsOption, LaunchPlan,
    MASKED_PATHS, Mount, MountKind, NamespaceMode, Namespaces, Propagation, READONLY_PATHS, Resources,
    Rlimit, Rootfs, Stdio, TmpfsOptions, UserSpec,
};
pub use process::{Ends, NamespaceKind, Process};
pub use runtime::{Leftover, Runtime, RuntimeConfig};
pub use supervisor::ExitStatus;
pub use view::View;
