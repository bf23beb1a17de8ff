//! Everything that the host's side of Sampan decides: the VM's life, `docker.sock`, the fabric, the settings.
//!
//! Knows neither Tauri nor Apple: the window (`src-tauri`), the command (`cli`) and Apple's hypervisor (`vz`)
//! are built on this crate, and its tests run on Linux.

mod control;
pub mod docker;
pub mod fabric;
pub mod hypervisor;
pub mod model;
pub mod paths;
mod sampan;
pub mod settings;
pub mod vm;

#[cfg(test)]
mod bindings;

pub use sampan::{Boot, Sampan, owner_status, stop_owner, stopped_status};
