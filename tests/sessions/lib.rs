//! What people do all day, done for real: other people's clients, and other people's servers.
//!
//! `tests/engine` asks the engine question by question; here whole programs that know nothing of it work
//! a session through: Compose, docker-py, Testcontainers and bollard as clients, PostgreSQL, Redis and
//! nginx as load. Each test has an engine in a sandbox of its own.
#![cfg(test)]

mod bollard;
mod compose;
mod from_inside;
mod programs;
mod python;
mod servers;
mod short_runs;

use harness::{Engine, fixtures};

/// An engine that has busybox loaded.
fn engine_with_busybox() -> Engine {
    let engine = Engine::start();
    engine.load(&fixtures::busybox());
    engine
}

/// What every test here needs of the machine.
fn available() -> Result<(), String> {
    Engine::available()?;
    fixtures::busybox_available()
}
