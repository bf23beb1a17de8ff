//! The sequences of events that clients are built upon, and waiting.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use harness::{Engine, eventually, require};

use crate::engine_with_busybox;

/// What happens to one container, as it happens.
struct Listener {
    docker: Child,
    actions: mpsc::Receiver<String>,
}

impl Listener {
    fn new(engine: &Engine, name: &str) -> Self {
        let filter = format!("container={name}");
        let arguments = ["events", "--filter", "type=container", "--filter", &filter];
        let format = ["--format", "{{.Action}}"];
        let mut docker = engine
            .docker_command(arguments.into_iter().chain(format))
            .stdout(Stdio::piped())
            .spawn()
            .expect("docker starts");
        let stdout = docker.stdout.take().expect("stdout is piped");
        let (sender, actions) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let listener = Self { docker, actions };
        // A rename and back tells when the listener listens.
        eventually("the events are listened to", || {
            let _ = engine.docker(["rename", name, "elsewhere"]);
            let _ = engine.docker(["rename", "elsewhere", name]);
            listener.actions.recv_timeout(Duration::from_millis(200)).ok()
        });
        while listener.actions.recv_timeout(Duration::from_millis(300)).is_ok() {}
        listener
    }

    /// The next actions.
    #[track_caller]
    fn next(&self, count: usize) -> Vec<String> {
        (0..count)
            .map(|number| {
                self.actions
                    .recv_timeout(Duration::from_secs(60))
                    .unwrap_or_else(|_| panic!("event {number} of {count} doesn't come"))
            })
            .collect()
    }

    #[track_caller]
    fn silent(&self) {
        if let Ok(action) = self.actions.recv_timeout(Duration::from_millis(500)) {
            panic!("unexpected: {action}");
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.docker.kill();
        let _ = self.docker.wait();
    }
}

fn create(engine: &Engine, name: &str, options: &[&str], script: &str) {
    let arguments = ["create", "--name", name, "--network", "none"];
    let command = ["busybox", "sh", "-c", script];
    let _ = engine.docker(arguments.iter().chain(options).chain(&command)).success();
}

#[test]
fn an_exit_is_die_alone_and_a_stop_is_kill_die_and_stop() {
    require!(crate::available());
    let engine = engine_with_busybox();
    // With an init as the first process the signal ends the shell however early it comes.
    create(&engine, "box", &["--init"], "[ -e /stay ] || exit 3; while :; do sleep 0.05; done");
    let listener = Listener::new(&engine, "box");
    let _ = engine.docker(["start", "box"]).success();
    assert_eq!(listener.next(2), ["start", "die"]);
    listener.silent();
    let empty = tempfile::NamedTempFile::new().unwrap();
    let _ = engine.docker(["cp", &empty.path().to_string_lossy(), "box:/stay"]).success();
    let _ = engine.docker(["start", "box"]).success();
    assert_eq!(listener.next(2), ["extract-to-dir", "start"]);
    let _ = engine.docker(["stop", "box"]).success();
    let mut stopped = listener.next(3);
    assert_eq!(stopped.remove(0), "kill");
    stopped.sort();
    assert_eq!(stopped, ["die", "stop"]);
    let _ = engine.docker(["start", "box"]).success();
    let _ = engine.docker(["restart", "box"]).success();
    let restarted = listener.next(6);
    assert_eq!((restarted[0].as_str(), restarted[1].as_str()), ("start", "kill"));
    let mut ended = restarted[2..4].to_vec();
    ended.sort();
    assert_eq!(ended, ["die", "stop"]);
    assert_eq!(restarted[4..], ["start", "restart"]);
    let _ = engine.docker(["kill", "box"]).success();
    assert_eq!(listener.next(2), ["kill", "die"]);
    let _ = engine.docker(["start", "box"]).success();
    let _ = engine.docker(["rm", "--force", "box"]).success();
    assert_eq!(listener.next(4), ["start", "kill", "die", "destroy"]);
    listener.silent();
}

#[test]
fn a_policy_restarts_without_a_restart_event_and_a_stop_in_its_pause_is_stop_alone() {
    require!(crate::available());
    let engine = engine_with_busybox();
    create(&engine, "box", &["--restart", "always"], "exit 1");
    let listener = Listener::new(&engine, "box");
    let _ = engine.docker(["start", "box"]).success();
    assert_eq!(listener.next(6), ["start", "die", "start", "die", "start", "die"]);
    // The pauses double: one of those that come is long enough to be met.
    eventually("a pause is met", || {
        let state = engine.inspect("box")["State"].clone();
        (state["Restarting"] == true && state["Running"] == true && state["Status"] == "restarting")
            .then_some(())
    });
    while listener.actions.recv_timeout(Duration::from_millis(1)).is_ok() {}
    let stop = eventually("the stop meets a pause", || {
        let _ = engine.docker(["stop", "box"]).success();
        let told: Vec<String> =
            std::iter::from_fn(|| listener.actions.recv_timeout(Duration::from_millis(300)).ok()).collect();
        if told.last().is_some_and(|last| last == "stop") && !told.contains(&"kill".to_owned()) {
            return Some(told);
        }
        let _ = engine.docker(["start", "box"]).success();
        None
    });
    assert_eq!(stop.iter().filter(|action| *action == "stop").count(), 1, "{stop:?}");
    assert_eq!(engine.inspect("box")["State"]["Status"], "exited");
    listener.silent();
}

#[test]
fn waits_are_for_the_end_the_next_one_or_the_removal() {
    require!(crate::available());
    let engine = engine_with_busybox();
    create(&engine, "box", &[], "exit 4");
    let _ = engine.docker(["start", "--attach", "box"]).exits(4);
    let wait = |condition: &str| {
        let path = format!("/containers/box/wait?condition={condition}");
        engine.api(&path, &["--request", "POST", "--max-time", "1"])
    };
    assert_eq!(wait("not-running").success().json()["StatusCode"], 4);
    assert_eq!(wait("next-exit").code(), Some(28), "the end that is over is not the next one");
    assert_eq!(wait("removed").code(), Some(28));
    assert!(wait("whenever").stdout().contains("invalid condition"));
    thread::scope(|scope| {
        let removed = scope.spawn(|| {
            engine.api("/containers/box/wait?condition=removed", &["--request", "POST", "--max-time", "60"])
        });
        let _ = engine.docker(["rm", "box"]).success();
        let answer = removed.join().unwrap();
        // Either the wait saw the removal, or it came after it.
        let text = answer.stdout();
        assert!(text.contains("\"StatusCode\":4") || text.contains("No such container"), "{text}");
    });
}

#[test]
fn what_is_not_honoured_is_refused_or_warned_of() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let refusal = |options: &[&str]| {
        let arguments = ["create"].iter().chain(options).chain(&["busybox"]);
        engine.docker(arguments).exits(1).stderr()
    };
    let body = r#"{"Image":"busybox","HostConfig":{"Sysctls":{"kernel.core_pattern":"x"}}}"#;
    let create = ["--data", body, "--header", "Content-Type: application/json"];
    let sysctl = engine.api("/containers/create", &create).stdout();
    assert!(sysctl.contains("is not in a separate kernel namespace"), "{sysctl}");
    let gpu = refusal(&["--gpus", "all"]);
    assert!(gpu.contains("could not select device driver \"\" with capabilities: [[gpu]]"), "{gpu}");
    let size = refusal(&["--storage-opt", "size=1g"]);
    assert!(size.contains("--storage-opt is supported only for overlay over xfs"), "{size}");
    let throttle = refusal(&["--device-read-bps", "/dev/nothing:1mb"]);
    assert!(throttle.contains("/dev/nothing"), "{throttle}");
    let warned = engine.docker(["create", "--cgroup-parent", "/mine", "busybox"]).success().stderr();
    assert!(warned.contains("CgroupParent discarded"), "{warned}");
    let _ = engine
        .docker(["create", "--userns", "host", "--runtime", "io.containerd.runc.v2", "busybox"])
        .success();
}

#[test]
fn shared_memory_is_shared_by_those_who_may() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let donor = ["run", "--detach", "--ipc", "shareable", "--name", "donor", "busybox", "sh", "-c"];
    let script = "echo shared > /dev/shm/file; sleep 1000";
    let _ = engine.docker(donor.into_iter().chain([script])).success();
    let read =
        || engine.docker(["run", "--rm", "--ipc", "container:donor", "busybox", "cat", "/dev/shm/file"]);
    eventually("the file is there", || (read().stdout() == "shared\n").then_some(()));
    let _ = engine.docker(["run", "--detach", "--name", "private", "busybox", "sleep", "1000"]).success();
    let refused = engine.docker(["run", "--rm", "--ipc", "container:private", "busybox", "true"]).stderr();
    assert!(refused.contains("non-shareable IPC"), "{refused}");
    let _ = engine.docker(["rm", "--force", "donor", "private"]).success();
}
