//! docker-py and Testcontainers for Python.

use std::path::Path;

use harness::{Engine, Output, require};

use crate::programs;

/// Runs one of the scripts against the engine, on the engine's side of the sandbox's wall.
#[track_caller]
fn run(engine: &Engine, script: &str) {
    let python = programs::python().unwrap_or_else(|lack| panic!("{lack}"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
    let mut command = engine.sandbox().command(python);
    command.arg(script).env("DOCKER_HOST", format!("unix://{}", engine.socket().display()));
    // The reaper is an image on a public registry, which a test must not need; `from_inside` does its work.
    command.env("TESTCONTAINERS_RYUK_DISABLED", "true").env("PYTHONDONTWRITEBYTECODE", "1");
    let _ = Output::of(&mut command).success();
}

#[test]
fn docker_py_works_a_session_through() {
    require!(Engine::with_busybox_available());
    require!(programs::python());
    run(&Engine::with_busybox(), "docker_py.py");
}

#[test]
fn testcontainers_works_a_session_through() {
    require!(Engine::with_busybox_available());
    require!(programs::python());
    let engine = Engine::with_busybox();
    run(&engine, "test_containers.py");
    assert_eq!(engine.docker(["ps", "--all", "--quiet"]).success().stdout(), "", "containers are left");
}
