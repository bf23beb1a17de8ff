//! What Docker's clients see of the host: the socket, the context, and our own typed client.

pub mod client;
pub mod context;
pub mod socket;
mod stream;
pub mod types;

pub use client::{Client, ClientError};
