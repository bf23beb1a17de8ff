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
fn an_exec_outlives_the_engine_and_its_exit_code_is_known() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let script = "mkfifo /go; echo ready; exec sleep 1000";
    let _ = engine.docker(["run", "--detach", "--name", "box", "busybox", "sh", "-c", script]).success();
    eventually("the pipe is there", || {
        engine.docker(["logs", "box"]).stdout().contains("ready").then_some(())
    });
    let post = |path: &str, body: &str| {
        let head = "Content-Type: application/json";
        engine.api(path, &["--fail-with-body", "--header", head, "--data", body]).success()
    };
    let body = r#"{"Cmd":["sh","-c","read word </go; exit $word"],"AttachStdout":true,"User":"sailor"}"#;
    let id = post("/containers/box/exec", body).json()["Id"].as_str().unwrap().to_owned();
    let _ = post(&format!("/exec/{id}/start"), r#"{"Detach":true}"#);
    let inspect = || engine.api(&format!("/exec/{id}/json"), &[]).success().json();
    let before = inspect();
    assert_eq!(before["Running"], true);
    engine.kill_engine();
    let after = inspect();
    assert_eq!((&after["Running"], &after["Pid"]), (&before["Running"], &before["Pid"]));
    assert_eq!(after["ProcessConfig"]["user"], "sailor");
    let _ = engine.docker(["exec", "box", "sh", "-c", "echo 7 >/go"]).success();
    eventually("it ends", || (inspect()["ExitCode"] == 7).then_some(()));
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

/// Numbers that look random and are the same in every run (Numerical Recipes' generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What a client can ask of one container; each may be cut off in its middle.
fn disturb(engine: &harness::Engine, name: &str, step: u64) {
    let _ = match step {
        0 => engine.docker(["start", name]),
        1 => engine.docker(["stop", "--time", "1", name]),
        2 => engine.docker(["kill", name]),
        3 => engine.docker(["restart", "--time", "1", name]),
        4 => engine.docker(["pause", name]),
        5 => engine.docker(["unpause", name]),
        6 => engine.docker(["exec", name, "true"]),
        7 => engine.docker(["rm", "--force", name]),
        _ => engine.docker(["create", "--name", name, "busybox", "sh", "-c", COUNT]),
    };
}

/// Counts for ever, a line at a time.
const COUNT: &str = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done";

/// What must hold of every container at any time that the engine answers.
fn assert_consistent(engine: &harness::Engine) {
    for id in engine.docker(["ps", "--all", "--quiet", "--no-trunc"]).success().stdout().lines() {
        let state = engine.inspect(id)["State"].clone();
        let (status, pid) = (state["Status"].as_str().unwrap(), state["Pid"].as_u64().unwrap());
        let lives = std::path::Path::new(&format!("/proc/{pid}")).exists();
        match status {
            "running" | "paused" => assert!(pid > 0 && lives, "{id}: {state}"),
            "created" | "exited" | "dead" => assert_eq!(pid, 0, "{id}: {state}"),
            other => panic!("{id} is {other}: {state}"),
        }
        // The log is whole lines, in order, none missing; one may be there twice after a kill.
        let log = engine.docker(["logs", id]).success().stdout();
        let mut expected = 0;
        for line in log.lines() {
            match line.parse::<u64>() {
                Ok(number) if number == expected => expected += 1,
                // The last line again, or a new run.
                Ok(number) if number + 1 == expected => {}
                Ok(0) => expected = 1,
                _ => panic!("{id}: `{line}` after {expected} in its log"),
            }
        }
    }
}

#[test]
fn the_engine_may_be_killed_at_any_moment() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let mut numbers = Numbers(20_261_124);
    for _round in 0..8 {
        std::thread::scope(|scope| {
            for name in ["one", "two", "three"] {
                let steps: Vec<u64> = (0..4).map(|_| numbers.below(9)).collect();
                let engine = &engine;
                scope.spawn(move || {
                    disturb(engine, name, 8);
                    disturb(engine, name, 0);
                    for step in steps {
                        disturb(engine, name, step);
                    }
                });
            }
            let pause = numbers.below(400);
            std::thread::park_timeout(std::time::Duration::from_millis(pause));
            engine.kill_engine();
        });
        assert_consistent(&engine);
    }
    // Everything can still be removed, and then nothing is left of it.
    for name in ["one", "two", "three"] {
        let _ = engine.docker(["rm", "--force", name]);
    }
    assert_eq!(engine.docker(["ps", "--all", "--quiet"]).success().stdout(), "");
    eventually("the containers' directories are gone", || {
        let entries = std::fs::read_dir(engine.data_root().join("containers")).unwrap().count();
        (entries == 0).then_some(())
    });
}
