//! Netlink: links, addresses and routes (rtnetlink) and the packet filter (nf_tables), spoken directly.
//!
//! [`Socket`] sends a [`Request`] of one or many messages in one system call and reads the answers; the
//! kernel handles both families before `sendmsg` returns, so nothing here waits. [`link`] and [`nft`] build
//! the messages. Every answer is parsed with bounds checks: a malformed one is an error, never a panic.
//!
//! A socket belongs to the network namespace that its thread was in when it was opened; see [`namespace`].

pub mod conntrack;
pub mod link;
mod message;
pub mod namespace;
pub mod nft;
mod socket;

pub use message::{Attributes, Message, Request};
pub use socket::{Error, Family, Socket};
