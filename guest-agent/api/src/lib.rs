//! The Docker Engine HTTP API over [`engine`]: parse, call, render, and no decision of its own.
//!
//! A connection is any byte stream (a unix socket, TCP, a framed vsock stream): [`Api::serve_connection`]
//! speaks HTTP/1.1 on it until the client leaves, a handler takes the bytes over ([`stream::hijack`]), or
//! [`Api::drain`] ends it. Listeners belong to whoever owns the sockets.
//!
//! One file per Docker noun, one function per route; a route's doc line is its method and path. What has
//! Docker's spelling on the wire and is not the engine's own record lives in [`wire`].

mod connection;
mod version;

mod body;
mod call;
mod error;
mod filters;
mod query;
mod registry_auth;
mod router;
mod time;








mod stream;


pub use connection::{Api, Limits, serve_connection};
pub use version::{MAXIMUM_VERSION, MINIMUM_VERSION, Version};
