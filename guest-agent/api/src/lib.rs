//! The Docker Engine HTTP API over [`engine`]: parse, call, render, and no decision of its own.
//!
//! A connection is any byte stream (a unix socket, TCP, a framed vsock stream): [`Api::serve_connection`]
//! speaks HTTP/1.1 on it until the client leaves, a handler takes the bytes over (attach, exec), or
//! [`Api::drain`] ends it. Listeners belong to whoever owns the sockets.
//!
//! One file per Docker noun, one function per route; a route's doc line is its method and path. Records in
//! Docker's spelling are the engine's; here are only the few that exist on the wire alone.

mod connection;
mod router;
mod transport;
mod version;

mod body;
mod call;
mod error;
mod query;
mod registry_auth;
mod stream;

mod archive;
mod containers;
mod exec;
mod images;
mod networks;
mod system;
mod unserved;
mod volumes;

pub use connection::{Api, Limits, serve_connection};
pub use transport::{Opaque, Transport};
pub use version::{MAXIMUM_VERSION, MINIMUM_VERSION, Version};
