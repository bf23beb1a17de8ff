//! Create, start, attach, wait, stop, kill, remove, list, inspect: the life of a container.

use std::process::Stdio;

use harness::{Output, eventually, require};

use crate::engine_with_busybox;

#[test]
fn run_prints_and_passes_the_exit_code_on() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let run =
        engine.docker(["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7);
    assert_eq!((run.stdout().as_str(), run.stderr().as_str()), ("out\n", "err\n"));
    assert_eq!(engine.docker(["ps", "--all", "--quiet"]).success().stdout(), "", "--rm leaves nothing");
}

#[test]
fn standard_input_reaches_the_container_to_its_end() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let text = "line\n".repeat(50_000);
    let mut command = engine.docker_command(["run", "--rm", "--interactive", "busybox", "md5sum"]);
    let inside = Output::with_input(&mut command, text.as_bytes()).success().line();
    let mut here = std::process::Command::new("md5sum");
    assert_eq!(inside, Output::with_input(&mut here, text.as_bytes()).success().line());
}

#[test]
fn a_missing_program_exits_127_and_one_that_cannot_run_126() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let missing = engine.docker(["run", "--rm", "busybox", "no-such-program"]).exits(127).stderr();
    assert!(missing.contains(r#"exec: "no-such-program": executable file not found in $PATH"#), "{missing}");
    let folder = engine.docker(["run", "--rm", "busybox", "/etc/passwd"]).exits(126).stderr();
    assert!(folder.contains("permission denied"), "{folder}");
    assert_eq!(engine.docker(["ps", "--all", "--quiet"]).success().stdout(), "");
}

#[test]
fn a_missing_image_is_said_by_name() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let create = engine.api(
        "/containers/create",
        &["--data", r#"{"Image":"nothing:here"}"#, "--header", "Content-Type: application/json"],
    );
    assert!(create.stdout().contains("No such image: nothing:here"), "{create}");
}

#[test]
fn names_are_unique_and_ids_can_be_shortened() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let id = engine.docker(["create", "--name", "one", "busybox"]).success().line();
    assert_eq!(engine.inspect(&id[..8])["Name"], "/one");
    let conflict = engine.docker(["create", "--name", "one", "busybox"]).stderr();
    assert!(
        conflict.contains("Conflict. The container name \"/one\" is already in use by container"),
        "{conflict}"
    );
    let _ = engine.docker(["rename", "one", "two"]).success();
    assert!(engine.docker(["inspect", "one"]).stderr().contains("No such object: one"));
    let bad = engine.docker(["create", "--name", "a/b", "busybox"]).stderr();
    assert!(bad.contains("Invalid container name"), "{bad}");
}

#[test]
fn stop_is_gentle_first_and_kill_is_not() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let script = "trap 'echo bye; exit 4' TERM; echo set; while :; do sleep 0.01; done";
    let _ = engine.docker(["run", "--detach", "--name", "gentle", "busybox", "sh", "-c", script]).success();
    eventually("the trap is set", || (engine.docker(["logs", "gentle"]).stdout() == "set\n").then_some(()));
    let _ = engine.docker(["stop", "gentle"]).success();
    assert_eq!(engine.inspect("gentle")["State"]["ExitCode"], 4);
    assert_eq!(engine.docker(["logs", "gentle"]).success().stdout(), "set\nbye\n");
    let deaf = "trap '' TERM; while :; do sleep 0.01; done";
    let _ = engine.docker(["run", "--detach", "--name", "deaf", "busybox", "sh", "-c", deaf]).success();
    let _ = engine.docker(["stop", "--time", "0", "deaf"]).success();
    assert_eq!(engine.inspect("deaf")["State"]["ExitCode"], 137);
    let running = engine.docker(["kill", "deaf"]).stderr();
    assert!(running.contains("is not running"), "{running}");
}

#[test]
fn a_running_container_is_removed_only_by_force() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["run", "--detach", "--name", "busy", "busybox", "sleep", "1000"]).success();
    let refused = engine.docker(["rm", "busy"]).stderr();
    assert!(
        refused.contains("container is running") || refused.contains("cannot remove container"),
        "{refused}"
    );
    let _ = engine.docker(["rm", "--force", "busy"]).success();
    assert_eq!(engine.docker(["ps", "--all", "--quiet"]).success().stdout(), "");
}

#[test]
fn wait_returns_the_exit_code() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine
        .docker(["run", "--detach", "--name", "box", "busybox", "sh", "-c", "sleep 0.2; exit 9"])
        .success();
    assert_eq!(engine.docker(["wait", "box"]).success().line(), "9");
}

#[test]
fn pause_freezes_and_unpause_goes_on() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["run", "--detach", "--name", "box", "busybox", "sleep", "1000"]).success();
    let _ = engine.docker(["pause", "box"]).success();
    assert_eq!(engine.inspect("box")["State"]["Status"], "paused");
    let refused = engine.docker(["exec", "box", "true"]).stderr();
    assert!(refused.contains("is paused"), "{refused}");
    let _ = engine.docker(["unpause", "box"]).success();
    let _ = engine.docker(["exec", "box", "true"]).success();
}

#[test]
fn restart_policies_restart_and_stop_counts_as_the_users_word() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine
        .docker([
            "run",
            "--detach",
            "--name",
            "retry",
            "--restart",
            "on-failure:2",
            "busybox",
            "sh",
            "-c",
            "echo x; exit 1",
        ])
        .success();
    eventually("two restarts", || (engine.inspect("retry")["State"]["Status"] == "exited").then_some(()));
    assert_eq!(engine.inspect("retry")["RestartCount"], 2);
    assert_eq!(engine.docker(["logs", "retry"]).success().stdout(), "x\nx\nx\n");
    let _ = engine
        .docker(["run", "--detach", "--name", "stay", "--restart", "always", "busybox", "sleep", "1000"])
        .success();
    let _ = engine.docker(["stop", "--time", "0", "stay"]).success();
    assert_eq!(engine.inspect("stay")["State"]["Running"], false);
}

#[test]
fn a_client_attaches_to_what_runs_already() {
    require!(crate::available());
    let engine = engine_with_busybox();
    // Unlike `run --detach`, `create` lets the first client's end of input be the container's.
    let _ = engine.docker(["create", "--interactive", "--name", "box", "busybox", "cat"]).success();
    let _ = engine.docker(["start", "box"]).success();
    let mut attach = engine.docker_command(["attach", "box"]);
    let echoed = Output::with_input(&mut attach, b"echo me\n").success();
    assert_eq!(echoed.stdout(), "echo me\n");
    eventually("cat ends with its input", || {
        (engine.inspect("box")["State"]["Running"] == false).then_some(())
    });
}

#[test]
fn a_terminal_is_a_terminal() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let id = engine.docker(["create", "--tty", "busybox", "sh", "-c", "tty; stty size"]).success().line();
    let _ = engine.docker(["start", &id]).success();
    assert_eq!(engine.docker(["wait", &id]).success().line(), "0");
    let logs = engine.docker(["logs", &id]).success().stdout();
    assert!(logs.starts_with("/dev/pts/0\r\n") || logs.starts_with("/dev/console\r\n"), "{logs:?}");
}

#[test]
fn the_process_is_confined_by_default() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let status = engine.docker(["run", "--rm", "busybox", "cat", "/proc/self/status"]).success().stdout();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim_start_matches(':').trim().to_owned())
    };
    assert_eq!(field("Seccomp").as_deref(), Some("2"), "a filter is loaded");
    assert_eq!(field("CapEff").as_deref(), Some("00000000a80425fb"), "Docker's 14 capabilities");
    assert_eq!(field("CapInh").as_deref(), Some("0000000000000000"));
    let _ = engine.docker(["run", "--rm", "busybox", "mount", "-t", "tmpfs", "none", "/tmp"]).exits(1);
    assert_eq!(engine.docker(["run", "--rm", "busybox", "cat", "/proc/kcore"]).stdout(), "", "masked");
    let sysctl =
        engine.docker(["run", "--rm", "busybox", "sh", "-c", "echo x > /proc/sys/kernel/hostname"]).stderr();
    assert!(sysctl.contains("Read-only file system"), "{sysctl}");
    let all =
        engine.docker(["run", "--rm", "--cap-drop", "ALL", "busybox", "grep", "CapEff", "/proc/self/status"]);
    assert!(all.success().stdout().contains("0000000000000000"));
}

#[test]
fn user_workdir_env_and_hostname_are_what_was_asked() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let arguments = [
        "run",
        "--rm",
        "--user",
        "sailor:crew",
        "--workdir",
        "/tmp/deep",
        "--env",
        "A=b c",
        "--hostname",
        "boat",
    ];
    let shell = ["busybox", "sh", "-c", "id -u; id -g; pwd; echo $A; hostname; echo $HOME"];
    let output = engine.docker(arguments.into_iter().chain(shell)).success().stdout();
    assert_eq!(output, "1000\n2000\n/tmp/deep\nb c\nboat\n/home/sailor\n");
    let unknown = engine.docker(["run", "--rm", "--user", "nobody-here", "busybox", "true"]).stderr();
    assert!(unknown.contains("unable to find user nobody-here"), "{unknown}");
}

#[test]
fn a_read_only_root_refuses_writes() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let refused = engine.docker(["run", "--rm", "--read-only", "busybox", "touch", "/x"]).exits(1).stderr();
    assert!(refused.contains("Read-only file system"), "{refused}");
    let _ = engine
        .docker(["run", "--rm", "--read-only", "--tmpfs", "/tmp", "busybox", "touch", "/tmp/x"])
        .success();
}

#[test]
fn list_filters_by_name_label_and_status() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let _ = engine.docker(["create", "--name", "red", "--label", "colour=red", "busybox"]).success();
    let _ = engine
        .docker(["run", "--detach", "--name", "blue", "--label", "colour=blue", "busybox", "sleep", "99"])
        .success();
    let names = |filters: &[&str]| {
        let mut arguments = vec!["ps", "--all", "--format", "{{.Names}}"];
        filters.iter().for_each(|filter| arguments.extend(["--filter", filter]));
        engine.docker(arguments).success().stdout()
    };
    assert_eq!(names(&["label=colour=red"]), "red\n");
    assert_eq!(names(&["status=running"]), "blue\n");
    assert_eq!(names(&["name=re", "label=colour"]), "red\n");
    let bad = engine.docker(["ps", "--filter", "no-such-filter=1"]).stderr();
    assert!(bad.to_lowercase().contains("invalid filter"), "{bad}");
}

#[test]
fn twenty_containers_run_at_once() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let clients: Vec<_> = (0..20)
        .map(|number| {
            engine
                .docker_command(["run", "--rm", "busybox", "echo", &number.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for (number, client) in clients.into_iter().enumerate() {
        let output = client.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{number}\n"), "{output:?}");
    }
}

#[test]
fn update_changes_limits_and_policy_and_refuses_contradictions() {
    require!(crate::available());
    let engine = engine_with_busybox();
    let run = ["run", "--detach", "--name", "box", "--cpus", "1", "busybox", "sleep", "1000"];
    let _ = engine.docker(run).success();
    let update = ["update", "--memory", "64m", "--memory-swap", "128m", "--restart", "on-failure:3", "box"];
    assert_eq!(engine.docker(update).success().line(), "box");
    let host = engine.inspect("box")["HostConfig"].clone();
    assert_eq!((&host["Memory"], &host["MemorySwap"]), (&(64 << 20).into(), &(128 << 20).into()));
    assert_eq!(host["NanoCpus"], 1_000_000_000);
    assert_eq!(host["RestartPolicy"]["MaximumRetryCount"], 3);
    let quota = engine.docker(["update", "--cpu-quota", "50000", "box"]).exits(1).stderr();
    assert!(quota.contains("CPU Quota cannot be updated as NanoCPUs has already been set"), "{quota}");
    let small = engine.docker(["update", "--memory", "1m", "box"]).exits(1).stderr();
    assert!(small.contains("Minimum memory limit allowed is 6MB"), "{small}");
    let _ = engine.docker(["rm", "--force", "box"]).success();
    let _ =
        engine.docker(["run", "--detach", "--rm", "--name", "brief", "busybox", "sleep", "1000"]).success();
    let policy = engine.docker(["update", "--restart", "always", "brief"]).exits(1).stderr();
    assert!(policy.contains("AutoRemove is enabled for the container"), "{policy}");
    let _ = engine.docker(["rm", "--force", "brief"]).success();
}

#[test]
fn a_web_socket_carries_input_and_output() {
    use std::io::{Read as _, Write as _};
    require!(crate::available());
    let engine = engine_with_busybox();
    let run =
        ["run", "--detach", "--interactive", "--name", "box", "busybox", "sh", "-c", "read x; echo got $x"];
    let _ = engine.docker(run).success();
    let plain = engine.api("/containers/box/attach/ws?stream=1", &["--write-out", "%{http_code}"]).stdout();
    assert!(plain.ends_with("400"), "{plain}");
    let mut socket = std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
    let request = "GET /containers/box/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: engine\r\n\
        Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    // One masked binary frame; a mask of zeroes leaves the text as it is.
    socket.write_all(&[&[0x82, 0x80 | 5, 0, 0, 0, 0][..], b"ahoy\n"].concat()).unwrap();
    let mut frame = [0; 2 + 9];
    socket.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, b"\x82\x09got ahoy\n");
    // The end of the output is a close frame.
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.first(), Some(&0x88));
}
