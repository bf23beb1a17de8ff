//! Pulling, loading, saving and removing through the public interface, against a real registry and hostile ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod archives;
mod fixture;
mod hostile;
mod pull;
mod push;
mod remove;
mod server;
mod tls;
