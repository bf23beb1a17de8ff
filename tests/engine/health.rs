//! Health checks: every state, the log, the events, and their life over a restart of the engine.

use harness::{Engine, eventually, require};
use serde_json::Value;

use crate::engine_with_busybox;

/// Runs a container in the background with a check, and returns the engine.
fn checked(name: &str, options: &[&str], command: &[&str]) -> Engine {
    let engine = engine_with_busybox();
    let mut run = vec!["run", "--detach", "--name", name, "--network", "none"];
    run.extend(options);
    run.push("busybox");
    run.extend(command);
    let _ = engine.docker(run).success();
    engine
}

fn health(engine: &Engine, name: &str) -> Value {
    engine.inspect(name)["State"]["Health"].clone()
}

fn becomes(engine: &Engine, name: &str, status: &str) -> Value {
    eventually(&format!("{name} becomes {status}"), || {
        Some(health(engine, name)).filter(|health| health["Status"] == status)
    })
}

fn actions(engine: &Engine, filter: &str) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let until = (now + 1).to_string();
    let arguments = ["events", "--since", "1", "--until", &until, "--filter", filter];
    engine.docker(arguments.into_iter().chain(["--format", "{{.Action}}"])).success().stdout()
}

#[test]
fn a_container_is_starting_then_healthy_then_unhealthy() {
    require!(crate::available());
    let check = ["--health-cmd", "cat /state", "--health-interval", "100ms", "--health-retries", "2"];
    let engine = checked("box", &check, &["sleep", "1000"]);
    let first = health(&engine, "box");
    assert!(first["Status"] == "starting" || first["Status"] == "unhealthy", "{first}");
    let _ = engine.docker(["exec", "box", "sh", "-c", "echo fine > /state"]).success();
    let healthy = becomes(&engine, "box", "healthy");
    assert_eq!(healthy["FailingStreak"], 0);
    let last = healthy["Log"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["ExitCode"], &last["Output"]), (&Value::from(0), &Value::from("fine\n")));
    let shown = engine.docker(["ps", "--filter", "health=healthy", "--format", "{{.Status}}"]).success();
    assert!(shown.stdout().contains("(healthy)"), "{shown}");
    let _ = engine.docker(["exec", "box", "rm", "/state"]).success();
    let unhealthy = becomes(&engine, "box", "unhealthy");
    assert!(unhealthy["FailingStreak"].as_u64().unwrap() >= 2, "{unhealthy}");
    eventually("the log holds five results", || {
        (health(&engine, "box")["Log"].as_array().map_or(0, Vec::len) == 5).then_some(())
    });
    let changes = actions(&engine, "event=health_status");
    assert!(changes.ends_with("health_status: healthy\nhealth_status: unhealthy\n"), "{changes}");
    let execs = actions(&engine, "container=box");
    for action in ["exec_create: /bin/sh -c cat /state", "exec_start: /bin/sh -c cat /state", "exec_die"] {
        assert!(execs.lines().any(|line| line == action), "{action} is missing in {execs}");
    }
    let _ = engine.docker(["rm", "--force", "box"]).success();
}

#[test]
fn failures_within_the_start_period_do_not_count_and_its_interval_is_its_own() {
    require!(crate::available());
    let check = [
        "--health-cmd",
        "false",
        "--health-interval",
        "1h",
        "--health-start-period",
        "1h",
        "--health-start-interval",
        "50ms",
        "--health-retries",
        "1",
    ];
    let engine = checked("box", &check, &["sleep", "1000"]);
    let health = eventually("five checks have failed", || {
        Some(health(&engine, "box")).filter(|health| health["Log"].as_array().map_or(0, Vec::len) == 5)
    });
    assert_eq!((&health["Status"], &health["FailingStreak"]), (&"starting".into(), &0.into()));
    let shown = engine.docker(["ps", "--format", "{{.Status}}"]).success().stdout();
    assert!(shown.contains("(health: starting)"), "{shown}");
    let _ = engine.docker(["rm", "--force", "box"]).success();
}

#[test]
fn a_check_that_takes_too_long_is_killed_and_says_what_it_printed() {
    require!(crate::available());
    let check = [
        "--health-cmd",
        "echo begun; exec sleep 4321",
        "--health-interval",
        "50ms",
        "--health-timeout",
        "200ms",
        "--health-retries",
        "1",
    ];
    let engine = checked("box", &check, &["sleep", "1000"]);
    let health = becomes(&engine, "box", "unhealthy");
    let result = &health["Log"][0];
    assert_eq!(result["ExitCode"], -1);
    assert_eq!(result["Output"], "Health check exceeded timeout (200ms): begun\n");
    let _ = engine.docker(["pause", "box"]).success();
    let _ = engine.docker(["unpause", "box"]).success();
    eventually("at most one check is left", || {
        let top = engine.docker(["top", "box"]).success().stdout();
        (top.matches("sleep 4321").count() <= 1).then_some(())
    });
    let _ = engine.docker(["rm", "--force", "box"]).success();
}

#[test]
fn a_check_that_cannot_run_says_why_and_long_output_is_cut() {
    require!(crate::available());
    let engine = checked(
        "box",
        &["--health-cmd", "yes | head -c 5000", "--health-interval", "50ms"],
        &["sleep", "1000"],
    );
    let health = becomes(&engine, "box", "healthy");
    let output = health["Log"][0]["Output"].as_str().unwrap();
    assert!(output.len() == 4099 && output.ends_with("..."), "{}", output.len());
    let body = r#"{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"none"},
        "Healthcheck":{"Test":["CMD","no-such-program"],"Interval":50000000,"Retries":1}}"#;
    let create = ["--data", body, "--header", "Content-Type: application/json"];
    let _ = engine.api("/containers/create?name=broken", &create).success();
    let _ = engine.docker(["start", "broken"]).success();
    let health = becomes(&engine, "broken", "unhealthy");
    let output = health["Log"][0]["Output"].as_str().unwrap();
    assert!(output.contains("executable file not found in $PATH"), "{output}");
    let _ = engine.docker(["rm", "--force", "box", "broken"]).success();
}

#[test]
fn no_check_is_no_health_and_an_end_is_unhealthy() {
    require!(crate::available());
    let engine = checked("none", &["--no-healthcheck"], &["sleep", "1000"]);
    assert_eq!(health(&engine, "none"), Value::Null);
    let check = ["--health-cmd", "true", "--health-interval", "50ms"];
    let mut run = vec!["run", "--detach", "--name", "box", "--network", "none"];
    run.extend(check);
    run.extend(["busybox", "sleep", "1000"]);
    let _ = engine.docker(run).success();
    becomes(&engine, "box", "healthy");
    let _ = engine.docker(["kill", "box"]).success();
    assert_eq!(health(&engine, "box")["Status"], "unhealthy");
    let _ = engine.docker(["start", "box"]).success();
    becomes(&engine, "box", "healthy");
    let listed = engine.docker(["ps", "--filter", "health=none", "--format", "{{.Names}}"]).success();
    assert_eq!(listed.stdout(), "none\n");
    let _ = engine.docker(["rm", "--force", "box", "none"]).success();
}

#[test]
fn checks_go_on_when_the_engine_comes_back() {
    require!(crate::available());
    let check = ["--health-cmd", "test -e /well", "--health-interval", "100ms", "--health-retries", "1"];
    let engine = checked("box", &check, &["sleep", "1000"]);
    becomes(&engine, "box", "unhealthy");
    engine.kill_engine();
    assert_eq!(health(&engine, "box")["Status"], "unhealthy");
    let _ = engine.docker(["exec", "box", "touch", "/well"]).success();
    becomes(&engine, "box", "healthy");
    let _ = engine.docker(["rm", "--force", "box"]).success();
}
