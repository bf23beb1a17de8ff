//! The small process that outlives the engine.
//!
//! PID 1 in the VM, the parent process under `serve`. It has one thread and hardly any state, so that it has no
//! reason to crash or to be upgraded; everything that can go wrong lives in the engine, which it restarts.
//!
//! ```text
//!             SOCK_SEQPACKET                 clone3
//!   engine ═══════════════════ supervisor ─────────────▶ container-init ─ execve ─▶ the container's program
//!   [`Client`]  requests, exits   [`run`]  ◀── SIGCHLD ──
//! ```
//!
//! * It starts the containers' processes, so they are its children and it alone reaps them.
//! * It holds copies of the engine's ends of their standard streams, so that no pipe breaks with the engine.
//! * It keeps each exit status until the engine says, with [`Client::release`], that it has recorded it.
//!
//! It knows nothing of containers: a child has a key, which means something to the engine only.

mod children;
mod client;
mod server;
mod wire;

pub use client::{Client, Held, SpawnRequest, Spawned};
pub use server::{Action, EngineCommand, ExitReason, Hooks, run};
pub use wire::{ExitStatus, Role};
/// The first descriptors of a started child, after its standard streams.
pub use wire::{FIRST_PASSED_FD, PLAN_FD, SYNC_FD};
