//! The engine, native, driven as users drive it: by the real `docker` command and by curl.
//!
//! One test binary; a module per noun. Each test has an engine in a sandbox of its own.
#![cfg(test)]

mod archive;
mod containers;
mod crashes;
mod events;
mod exec;
mod health;
mod hostile;
mod images;
mod layers;
mod listeners;
mod logs;
mod network;
mod networks;
mod recovery;
mod registries;
mod system;
mod volumes;

use harness::Engine;

/// An engine that has busybox loaded.
fn engine_with_busybox() -> Engine {
    Engine::with_busybox()
}

/// What most tests here need of the machine.
fn available() -> Result<(), String> {
    Engine::with_busybox_available()
}

/// Starts a web server, `web`, at port 8080 of the engine's machine.
#[track_caller]
fn run_web(engine: &Engine) {
    let run = ["run", "--detach", "--name", "web", "--publish", "8080:80", "busybox"];
    let server = ["httpd", "-f", "-h", "/var/www"];
    let _ = engine.docker(run.into_iter().chain(server)).success();
}
