//! The engine's death, a power loss, a clean stop: what must be there afterwards.

use harness::{eventually, require};

use crate::engine_with_busybox;

#[test]
fn containers_outlive_the_engine() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let script = "i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done; sleep 1000";
    let _ = engine.docker(["run", "--detach", "--name", "box", "busybox", "sh", "-c", script]).success();
    let pid = engine.inspect("box")["State"]["Pid"].clone();
    engine.kill_engine();
    assert_eq!(engine.inspect("box")["State"]["Pid"], pid);
    assert_eq!(engine.docker(["exec", "box", "echo", "still"]).success().stdout(), "still\n");
    let expected: String = (0..2000).map(|number| format!("{number}\n")).collect();
    eventually("every line is in the log", || {
        (engine.docker(["logs", "box"]).stdout() == expected).then_some(())
    });
    let _ = engine.docker(["rm", "--force", "box"]).success();
}

#[test]
fn an_exit_while_the_engine_was_down_is_not_lost() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine
        .docker(["run", "--detach", "--name", "box", "busybox", "sh", "-c", "sleep 0.3; exit 6"])
        .success();
    engine.kill_engine();
    assert_eq!(engine.docker(["wait", "box"]).success().line(), "6");
}

#[test]
fn images_and_stopped_containers_survive_a_power_loss() {
    require!(crate::available());
    let mut engine = engine_with_busybox();
    let _ = engine.docker(["create", "--name", "kept", "busybox", "echo", "kept"]).success();
    let _ = engine.docker(["run", "--detach", "--name", "ran", "busybox", "sleep", "1000"]).success();
    engine.cut_power();
    engine.boot();
    assert_eq!(engine.docker(["start", "--attach", "kept"]).success().stdout(), "kept\n");
    assert_eq!(engine.inspect("ran")["State"]["Status"], "exited");
    let _ = engine.docker(["start", "ran"]).success();
}

#[test]
fn a_clean_stop_stops_containers_and_restart_policies_bring_them_back() {
    require!(crate::available());
    let mut engine = engine_with_busybox();
    let _ = engine
        .docker(["run", "--detach", "--name", "always", "--restart", "always", "busybox", "sleep", "1000"])
        .success();
    let _ = engine.docker(["run", "--detach", "--name", "plain", "busybox", "sleep", "1000"]).success();
    engine.stop();
    engine.boot();
    eventually("the policy starts it", || {
        (engine.inspect("always")["State"]["Running"] == true).then_some(())
    });
    assert_eq!(engine.inspect("plain")["State"]["Running"], false);
}
