//! The main job: pull through the fabric, run, publish, limit, survive.

use harness::{Output, Vm, eventually, fixtures, require};

#[test]
fn images_are_pulled_from_the_hosts_loopback_and_a_published_port_answers() {
    require!(crate::available());
    let (host, registry) = crate::host_with_registry();
    registry.push("busybox", "1", &fixtures::busybox_image());
    let vm = Vm::start_in(&host, "vm");
    let reference = registry.reference("busybox:1");
    let _ = vm.docker(["pull", &reference]).success();
    let run = [
        "run",
        "--detach",
        "--name",
        "web",
        "--publish",
        "8080:80",
        &reference,
        "httpd",
        "-f",
        "-h",
        "/var/www",
    ];
    let _ = vm.docker(run).success();
    eventually("the host gets the page", || {
        (host.curl(["http://127.0.0.1:8080/"]).stdout() == "ahoy\n").then_some(())
    });
    let second = ["run", "--publish", "8080:80", &reference, "true"];
    let busy = vm.docker(second).exits(125).stderr();
    assert!(busy.contains("port is already allocated") || busy.contains("address already in use"), "{busy}");
    let _ = vm.docker(["rm", "--force", "web"]).success();
    assert_ne!(host.curl(["http://127.0.0.1:8080/"]).code(), Some(0), "the port is free again");
}

#[test]
fn a_debian_image_is_pulled_and_its_programs_run() {
    require!(crate::available());
    require!(harness::settings::program("mmdebstrap").map(drop));
    let (host, registry) = crate::host_with_registry();
    registry.push("debian", "12", &fixtures::debian_image());
    let vm = Vm::start_in(&host, "vm");
    let reference = registry.reference("debian:12");
    let _ = vm.docker(["pull", &reference]).success();
    let version =
        vm.docker(["run", "--rm", &reference, "bash", "-c", "cat /etc/debian_version; dpkg -l | wc -l"]);
    let text = version.success().stdout();
    assert!(text.starts_with("12."), "{text}");
}

#[test]
fn a_container_in_the_vm_reaches_a_server_on_the_host() {
    require!(crate::available());
    let (host, registry) = crate::host_with_registry();
    registry.push("busybox", "1", &fixtures::busybox_image());
    let vm = Vm::start_in(&host, "vm");
    vm.load(&fixtures::busybox());
    let url = "http://host.docker.internal:5000/v2/busybox/tags/list";
    let fetch = vm.docker(["run", "--rm", "busybox", "wget", "-q", "-O", "-", url]);
    assert!(fetch.success().stdout().contains("\"tags\":[\"1\"]"));
}

#[test]
fn limits_hold_in_the_vm() {
    require!(crate::available());
    let vm = crate::vm_with_busybox();
    let direct = ["run", "--name", "direct", "--memory", "16m", "busybox", "tail", "/dev/zero"];
    let _ = vm.docker(direct).exits(137);
    assert_eq!(vm.inspect("direct")["State"]["OOMKilled"], true);
    // A child is killed and the container goes on: that is told while it runs.
    let child = "sh -c 'tail /dev/zero'; echo $?; sleep 1000";
    let run = ["run", "--detach", "--name", "parent", "--memory", "16m", "busybox", "sh", "-c", child];
    let _ = vm.docker(run).success();
    eventually("the child's end is told while its parent runs", || {
        let state = vm.inspect("parent")["State"].clone();
        (state["OOMKilled"] == true && state["Running"] == true).then_some(())
    });
    let until = (std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 2).to_string();
    let events = ["events", "--since", "1", "--until", &until, "--filter", "container=direct"];
    let ends = ["--filter", "event=oom", "--filter", "event=die", "--format", "{{.Action}}"];
    assert_eq!(vm.docker(events.into_iter().chain(ends)).success().stdout(), "oom\ndie\n");
    let _ = vm.docker(["update", "--memory", "32m", "--memory-swap", "64m", "parent"]).success();
    let limit = vm.docker(["exec", "parent", "cat", "/sys/fs/cgroup/memory.max"]).success();
    assert_eq!(limit.stdout(), "33554432\n");
    let _ = vm.docker(["rm", "--force", "parent"]).success();
    let forks = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 100 & done; wait";
    let crowded = vm.docker(["run", "--pids-limit", "8", "--rm", "busybox", "sh", "-c", forks]);
    assert!(crowded.stderr().contains("can't fork"), "{crowded}");
    let quota = vm.docker(["run", "--rm", "--cpus", "0.5", "busybox", "cat", "/sys/fs/cgroup/cpu.max"]);
    assert_eq!(quota.success().stdout(), "50000 100000\n");
}

#[test]
fn the_engine_is_killed_and_the_container_goes_on() {
    require!(crate::available());
    let vm = crate::vm_with_busybox();
    let _ = vm.docker(["run", "--detach", "--name", "box", "busybox", "sleep", "1000"]).success();
    let pid = vm.inspect("box")["State"]["Pid"].clone();
    let find = "for p in /proc/[0-9]*; do if tr '\\0' ' ' < $p/cmdline | grep -q '^[^ ]* engine '; then kill -9 ${p#/proc/}; fi; done";
    // The client loses its connection with the engine that it has killed.
    let _ = vm.docker(["run", "--rm", "--privileged", "--pid", "host", "busybox", "sh", "-c", find]);
    eventually("the engine answers again", || (vm.docker(["version"]).code() == Some(0)).then_some(()));
    assert_eq!(vm.inspect("box")["State"]["Pid"], pid);
    assert_eq!(vm.docker(["exec", "box", "echo", "still"]).success().stdout(), "still\n");
}

#[test]
fn input_ends_where_the_client_ends_it() {
    require!(crate::available());
    let vm = crate::vm_with_busybox();
    let text = vec![b'z'; 1_000_000];
    let mut count = vm.docker_command(["run", "--rm", "--interactive", "busybox", "wc", "-c"]);
    assert_eq!(Output::with_input(&mut count, &text).success().line().trim(), "1000000");
}
