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
