//! Docker's meaning: containers, images, networks, volumes, logs, events and the system.
//!
//! The one place with rules and state machines. It composes `image`, `network` and `runtime`, which know
//! nothing of each other, and names neither HTTP nor the host: the API could be replaced and no file here
//! would change. Every operation of Docker's API is one method of [`Engine`] or of one of its halves
//! [`Images`](images::Images), [`Networks`](networks::Networks) and [`Volumes`](volumes::Volumes).

pub mod config;
pub mod containers;
mod copy;
pub mod engine;
pub mod error;
pub mod events;
pub mod filters;
pub mod images;
mod info;
mod instructions;
pub mod json;
mod logs;
pub mod networks;
mod pipe;
mod recover;
mod signal;
mod store;
pub mod system;
pub mod time;
pub mod volumes;

pub use config::{EngineConfig, Options};
pub use engine::Engine;
pub use error::{Error, Kind, Result};
