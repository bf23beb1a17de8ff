//! Containers: what they are asked to be, what they are, and the task that owns each.

pub(crate) mod input;
pub(crate) mod names;
pub mod request;
pub(crate) mod restart;
pub mod spec;
pub(crate) mod state;
pub mod view;

pub use input::{Input, Written};
