//! Networks against the real kernel, each test in a network namespace of its own, so that all run at once and
//! none touches the machine's. What exists is checked with foreign tools (`ip`, `nft`), what works with traffic.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod leaks;
mod names;
mod ports;
mod restart;
mod speed;
mod traffic;
mod world;
