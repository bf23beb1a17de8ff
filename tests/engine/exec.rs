//! Programs executed in a running container.

use harness::{Output, require};

use crate::engine_with_busybox;

#[test]
fn exec_joins_the_container_and_passes_the_exit_code_on() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine
        .docker(["run", "--detach", "--name", "box", "--hostname", "boat", "busybox", "sleep", "1000"])
        .success();
    let joined =
        engine.docker(["exec", "box", "sh", "-c", "hostname; cat /proc/1/comm; exit 5"]).exits(5).stdout();
    assert_eq!(joined, "boat\nsleep\n");
    let missing = engine.docker(["exec", "box", "no-such-program"]).exits(127);
    assert!(format!("{missing}").contains("executable file not found in $PATH"), "{missing}");
}

#[test]
fn exec_takes_user_environment_directory_and_input() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["run", "--detach", "--name", "box", "busybox", "sleep", "1000"]).success();
    let arguments = [
        "exec",
        "--user",
        "1000",
        "--env",
        "A=b",
        "--workdir",
        "/tmp",
        "box",
        "sh",
        "-c",
        "id -u; echo $A; pwd",
    ];
    assert_eq!(engine.docker(arguments).success().stdout(), "1000\nb\n/tmp\n");
    let mut wc = engine.docker_command(["exec", "--interactive", "box", "wc", "-c"]);
    assert_eq!(Output::with_input(&mut wc, &[b'x'; 300_000]).success().line().trim(), "300000");
}

#[test]
fn exec_in_a_stopped_container_is_refused() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let id = engine.docker(["create", "busybox"]).success().line();
    let refused = engine.docker(["exec", &id, "true"]).stderr();
    assert!(refused.contains("is not running"), "{refused}");
}

#[test]
fn exec_takes_rights_a_terminal_with_a_size_and_detach_keys() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["run", "--detach", "--name", "box", "busybox", "sleep", "1000"]).success();
    let capabilities = |more: &[&str]| {
        let exec = ["exec"].iter().chain(more).chain(&["box", "grep", "CapEff", "/proc/self/status"]);
        engine.docker(exec).success().stdout()
    };
    assert_ne!(capabilities(&["--privileged"]), capabilities(&[]));
    let post = |path: &str, body: &str| {
        let arguments = ["--request", "POST", "--header", "Content-Type: application/json", "--data", body];
        engine.api(path, &arguments)
    };
    // Names of fields are found whatever their case, as a Go program finds them.
    let body = r#"{"cmd":["stty","size"],"TTY":true,"attachStdout":true}"#;
    let id = post("/containers/box/exec", body).success().json()["Id"].as_str().unwrap().to_owned();
    let early = engine.api(&format!("/exec/{id}/resize?w=50&h=20"), &["--request", "POST", "--fail"]);
    let _ = early.success();
    let shown = post(&format!("/exec/{id}/start"), r#"{"Tty":true,"ConsoleSize":[33,77]}"#).stdout();
    assert!(shown.contains("20 50") || shown.contains("33 77"), "{shown}");
    let again = post(&format!("/exec/{id}/start"), "{}").stdout();
    assert!(again.contains("has already run"), "{again}");
    let inspected = engine.api(&format!("/exec/{id}/json"), &[]).success().json();
    assert_eq!((&inspected["ExitCode"], &inspected["Running"]), (&0.into(), &false.into()));
    let detached = post("/containers/box/exec", r#"{"Cmd":["touch","/tmp/done"]}"#).success().json();
    let id = detached["Id"].as_str().unwrap();
    let _ = post(&format!("/exec/{id}/start"), r#"{"Detach":true}"#).success();
    harness::eventually("the detached exec has run", || {
        (engine.docker(["exec", "box", "test", "-e", "/tmp/done"]).code() == Some(0)).then_some(())
    });
    let keys = post("/containers/box/exec", r#"{"Cmd":["true"],"DetachKeys":"wrong-key"}"#).stdout();
    assert!(keys.contains("Invalid detach keys"), "{keys}");
    let _ = engine.docker(["rm", "--force", "box"]).success();
}
