//! The virtual machine's life: a pure table of states, the task that owns it, and the files that it needs.

mod architecture;
pub mod assets;
pub mod boot;
pub mod machine;
pub mod state;

pub use architecture::Architecture;
