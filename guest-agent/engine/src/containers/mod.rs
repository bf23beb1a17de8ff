//! Containers: what they are asked to be, what they are, and the task that owns each.

pub mod archive;
pub mod changes;
pub mod commit;
pub mod request;
pub mod spec;
pub mod update;
pub mod view;

pub(crate) mod restart;
pub(crate) mod state;

pub(crate) mod check;
pub(crate) mod mounts;
pub(crate) mod names;
pub(crate) mod platform;
pub(crate) mod ports;

pub(crate) mod actor;
pub(crate) mod container;
pub(crate) mod create;
pub(crate) mod exec;
pub(crate) mod health;
pub(crate) mod input;
pub(crate) mod launch;
pub(crate) mod links;
pub(crate) mod list;
pub(crate) mod memory;
pub(crate) mod networking;
pub(crate) mod observe;
pub(crate) mod record;
pub(crate) mod registry;
pub(crate) mod remove;
pub(crate) mod resolver;
pub(crate) mod streams;

pub use input::{Input, Written};
