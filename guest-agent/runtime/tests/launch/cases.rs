//! What a container is, seen from its inside.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use runtime::{Ends, NamespaceKind, NamespaceMode, Rlimit, Stdio, UserSpec, capabilities};

use crate::lab::{Lab, PIPES, read, read_until, write};

/// A test and its name.
pub(crate) type Case = (&'static str, fn(&Lab));

pub(crate) const ALL: &[Case] = &[
    ("exit_codes_come_back", exit_codes_come_back),
    ("streams_are_kept_apart", streams_are_kept_apart),
    ("input_ends_when_it_is_closed", input_ends_when_it_is_closed),
    ("a_missing_program_is_127", a_missing_program_is_127),
    ("what_cannot_be_executed_is_126", what_cannot_be_executed_is_126),
    ("it_sees_its_own_processes_only", it_sees_its_own_processes_only),
    ("hostname_and_sysctls_are_its_own", hostname_and_sysctls_are_its_own),
    ("no_descriptor_of_ours_is_open", no_descriptor_of_ours_is_open),
    ("standard_mounts_are_there", standard_mounts_are_there),
    ("devices_work_and_disks_do_not", devices_work_and_disks_do_not),
    ("masked_paths_are_empty", masked_paths_are_empty),
    ("a_readonly_root_refuses_writes", a_readonly_root_refuses_writes),
    ("writes_go_to_the_upper_directory", writes_go_to_the_upper_directory),
    ("users_are_looked_up_in_the_container", users_are_looked_up_in_the_container),
    ("unknown_users_are_refused", unknown_users_are_refused),
    ("capabilities_are_the_default_ones", capabilities_are_the_default_ones),
    ("limits_of_the_process_are_set", limits_of_the_process_are_set),
    ("the_working_directory_is_made", the_working_directory_is_made),
    ("the_working_directory_cannot_be_outside", the_working_directory_cannot_be_outside),
    ("a_terminal_is_a_terminal", a_terminal_is_a_terminal),
    ("signals_arrive", signals_arrive),
    ("init_reaps_and_passes_signals_on", init_reaps_and_passes_signals_on),
    ("exec_joins_the_container", exec_joins_the_container),
    ("exec_has_its_own_terminal_and_errors", exec_has_its_own_terminal_and_errors),
    ("exec_after_the_end_is_refused", exec_after_the_end_is_refused),
    ("namespaces_can_be_shared", namespaces_can_be_shared),
    ("the_cgroup_freezes_and_kills", the_cgroup_freezes_and_kills),
    ("privileged_sees_every_device", privileged_sees_every_device),
    ("seccomp_filters_are_loaded", seccomp_filters_are_loaded),
];

fn exit_codes_come_back(lab: &Lab) {
    assert_eq!(lab.run(lab.plan(&["true"])).code, 0);
    assert_eq!(lab.run(lab.sh("exit 42")).code, 42);
    assert_eq!(lab.run(lab.sh("sh -c 'kill -9 $$'; exit $?")).code, 137);
}

fn streams_are_kept_apart(lab: &Lab) {
    let output = lab.run(lab.sh("echo out; echo err >&2; echo more > /dev/stdout"));
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\nmore\n", "err\n"));
}

fn input_ends_when_it_is_closed(lab: &Lab) {
    let process = lab.runtime.launch(lab.plan(&["cat"]), Stdio::Pipes { stdin: true }).unwrap();
    let Some(Ends::Pipes { stdin: Some(stdin), stdout, .. }) = process.take_stdio() else { panic!() };
    write(&stdin, "hello");
    assert_eq!(read_until(&stdout, "hello"), "hello");
    drop(stdin);
    process.close_stdin().unwrap();
    assert_eq!(read(stdout), "");
    assert_eq!(lab.wait(&process).code, Some(0));
    lab.runtime.release(process.id()).unwrap();
}

fn a_missing_program_is_127(lab: &Lab) {
    let error = lab.refuse(lab.plan(&["no-such-program"]));
    assert_eq!(error.exit_code(), 127);
    assert_eq!(
        error.to_string(),
        "OCI runtime create failed: runc create failed: unable to start container process: error during container \
         init: exec: \"no-such-program\": executable file not found in $PATH: unknown"
    );
    let error = lab.refuse(lab.plan(&["/no/such"]));
    assert_eq!(error.exit_code(), 127);
    assert!(
        error.to_string().contains("exec: \"/no/such\": stat /no/such: no such file or directory"),
        "{error}"
    );
}

fn what_cannot_be_executed_is_126(lab: &Lab) {
    let error = lab.refuse(lab.plan(&["/etc/passwd"]));
    assert_eq!(error.exit_code(), 126);
    assert!(error.to_string().contains("exec: \"/etc/passwd\": permission denied"), "{error}");
    let error = lab.refuse(lab.plan(&["/etc"]));
    assert_eq!(error.exit_code(), 126);
    assert!(error.to_string().contains("exec: \"/etc\": is a directory"), "{error}");
    // What a program for another machine looks like: an ELF header that the kernel does not take.
    let plan = lab.plan(&["/alien"]);
    let alien = plan.rootfs.upper.join("alien");
    fs::write(&alien, b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xff\xff").unwrap();
    fs::set_permissions(&alien, fs::Permissions::from_mode(0o755)).unwrap();
    let error = lab.refuse(plan);
    assert_eq!(error.exit_code(), 126);
    assert!(error.to_string().contains("exec /alien: exec format error"), "{error}");
}

fn it_sees_its_own_processes_only(lab: &Lab) {
    let output = lab.run(lab.sh("echo $$; ls /proc | grep -c '^[0-9]'"));
    let counts: Vec<u32> = output.stdout.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(counts[0], 1);
    assert!(counts[1] <= 3, "{counts:?}");
}

fn hostname_and_sysctls_are_its_own(lab: &Lab) {
    let mut plan = lab.sh("hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward");
    plan.hostname = "inside".to_owned();
    plan.domainname = "example".to_owned();
    plan.sysctls = vec![("net.ipv4.ip_forward".to_owned(), "1".to_owned())];
    assert_eq!(lab.run(plan).stdout, "inside\nexample\n1\n");
    let mut plan = lab.plan(&["true"]);
    plan.sysctls = vec![("net.no.such".to_owned(), "1".to_owned())];
    assert!(lab.refuse(plan).to_string().contains("net.no.such"));
}

fn no_descriptor_of_ours_is_open(lab: &Lab) {
    let listed = |output: &str| output.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // The fourth is the directory that is being listed.
    assert_eq!(listed(&lab.run(lab.plan(&["ls", "/proc/self/fd"])).stdout), ["0", "1", "2", "3"]);
    let container = lab.idle();
    assert_eq!(listed(&lab.exec(&container, &["ls", "/proc/self/fd"]).stdout), ["0", "1", "2", "3"]);
    lab.end(&container);
}

fn standard_mounts_are_there(lab: &Lab) {
    let output = lab.run(lab.sh("cat /proc/self/mounts; ls -l /dev"));
    for line in [
        "proc /proc proc rw,nosuid,nodev,noexec",
        "tmpfs /dev tmpfs rw,nosuid",
        "devpts /dev/pts devpts rw,nosuid,noexec",
        "tmpfs /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k",
        "mqueue /dev/mqueue mqueue rw",
        "sysfs /sys sysfs ro,nosuid,nodev,noexec",
        "cgroup /sys/fs/cgroup cgroup2 ro",
        "overlay / overlay rw",
    ] {
        assert!(output.stdout.contains(line), "{line} is missing in {}", output.stdout);
    }
    assert!(output.stdout.contains("ptmx -> pts/ptmx"), "{}", output.stdout);
}

fn devices_work_and_disks_do_not(lab: &Lab) {
    let output = lab.run(lab.sh(
        "echo x > /dev/null && head -c 4 /dev/zero | wc -c && mknod /tmp/null c 1 3 && echo y > /tmp/null && echo made; \
         mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk && echo OPENED; mknod /dev/disk b 254 0 && head -c 1 /dev/disk && echo OPENED",
    ));
    assert!(output.stdout.starts_with("4\nmade\n"), "{output:?}");
    if lab.runtime.host().device_filter {
        assert!(!output.stdout.contains("OPENED"), "{output:?}");
        assert!(output.stderr.contains("Operation not permitted"), "{output:?}");
    } else {
        println!("SKIPPED: the kernel cannot filter devices");
    }
}

fn masked_paths_are_empty(lab: &Lab) {
    let script = "cat /proc/interrupts | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/panic; \
                  touch /sys/x";
    let output = lab.run(lab.sh(script));
    assert_eq!(output.stdout, "0\n0\n");
    assert_eq!(output.stderr.matches("Read-only file system").count(), 2, "{}", output.stderr);
    let mut plan = lab.sh(script);
    plan.masked_paths.clear();
    assert_ne!(lab.run(plan).stdout, "0\n0\n");
}

fn a_readonly_root_refuses_writes(lab: &Lab) {
    let mut plan = lab.sh("touch /x; touch /dev/shm/y && echo shm");
    plan.readonly_rootfs = true;
    let output = lab.run(plan);
    assert!(output.stderr.contains("/x: Read-only file system"), "{output:?}");
    assert_eq!(output.stdout, "shm\n");
}

fn writes_go_to_the_upper_directory(lab: &Lab) {
    let plan = lab.sh("echo kept > /file");
    let upper = plan.rootfs.upper.clone();
    lab.run(plan);
    assert_eq!(fs::read_to_string(upper.join("file")).unwrap(), "kept\n");
}

fn users_are_looked_up_in_the_container(lab: &Lab) {
    let id = |user: &str, groups: &[&str]| {
        let mut plan = lab.sh("id; echo $HOME");
        plan.user = UserSpec {
            user: user.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        lab.run(plan).stdout
    };
    assert_eq!(id("", &[]), "uid=0(root) gid=0(root) groups=0(root)\n/root\n");
    assert_eq!(id("www", &[]), "uid=33(www) gid=34(www) groups=29(audio),34(www)\n/var/www\n");
    assert_eq!(id("www:0", &["audio"]), "uid=33(www) gid=0(root) groups=0(root),29(audio)\n/var/www\n");
    assert_eq!(id("1234:99", &[]), "uid=1234 gid=99 groups=99\n/\n");
    // The files may be links, which end inside.
    let mut plan = lab.plan(&["id", "-u"]);
    symlink("../../../../../../hidden", plan.rootfs.upper.join("etc")).unwrap();
    fs::create_dir(plan.rootfs.upper.join("hidden")).unwrap();
    fs::write(plan.rootfs.upper.join("hidden/passwd"), "trick:x:77:7::/:/bin/sh\n").unwrap();
    plan.user.user = "trick".to_owned();
    assert_eq!(lab.run(plan).stdout, "77\n");
}

fn unknown_users_are_refused(lab: &Lab) {
    let mut plan = lab.plan(&["true"]);
    plan.user.user = "joe".to_owned();
    assert_eq!(lab.refuse(plan).to_string(), "unable to find user joe: no matching entries in passwd file");
}

fn capabilities_are_the_default_ones(lab: &Lab) {
    let status = |user: &str, all: bool| {
        let mut plan = lab.plan(&["grep", "Cap", "/proc/self/status"]);
        plan.user.user = user.to_owned();
        if all {
            plan.capabilities = capabilities::CapSets::from(&[], &[], true).unwrap();
        }
        lab.run(plan).stdout.replace('\t', "")
    };
    let mask = "00000000a80425fb";
    let none = "0000000000000000";
    assert_eq!(
        status("", false),
        format!("CapInh:{none}\nCapPrm:{mask}\nCapEff:{mask}\nCapBnd:{mask}\nCapAmb:{none}\n")
    );
    assert_eq!(
        status("www", false),
        format!("CapInh:{none}\nCapPrm:{none}\nCapEff:{none}\nCapBnd:{mask}\nCapAmb:{none}\n")
    );
    // A privileged one has what the engine has.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find(|line| line.starts_with("CapEff")).unwrap().replace('\t', "");
    assert!(status("", true).contains(&own));
}

fn limits_of_the_process_are_set(lab: &Lab) {
    let mut plan = lab.sh(
        "ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj; grep NoNewPrivs /proc/self/status",
    );
    plan.rlimits = vec![
        Rlimit { name: "nofile".to_owned(), soft: 100, hard: 200 },
        Rlimit { name: "RLIMIT_CORE".to_owned(), soft: 0, hard: 0 },
    ];
    plan.oom_score_adj = Some(321);
    plan.no_new_privileges = true;
    assert_eq!(lab.run(plan).stdout, "100\n200\n0\n321\nNoNewPrivs:\t1\n");
}

fn the_working_directory_is_made(lab: &Lab) {
    let mut plan = lab.plan(&["pwd"]);
    plan.cwd = "/srv/app".to_owned();
    assert_eq!(lab.run(plan).stdout, "/srv/app\n");
    let mut plan = lab.plan(&["pwd"]);
    plan.cwd = "/etc/passwd".to_owned();
    let error = lab.refuse(plan).to_string();
    assert!(
        error.contains("chdir to cwd (\"/etc/passwd\") set in config.json failed: not a directory"),
        "{error}"
    );
}

fn the_working_directory_cannot_be_outside(lab: &Lab) {
    for number in 0..12 {
        let mut plan = lab.sh("pwd; ls -d ../../../../../../etc/passwd; cat ../../../../../../etc/group");
        plan.cwd = format!("/proc/self/fd/{number}");
        // Most fail to start; whoever starts must be inside.
        match lab.runtime.launch(plan, PIPES) {
            Err(_) => {}
            Ok(process) => {
                let output = lab.finish(&process);
                lab.runtime.release(process.id()).unwrap();
                assert!(output.stdout.contains("audio:x:29:www"), "{output:?}");
            }
        }
    }
}

fn a_terminal_is_a_terminal(lab: &Lab) {
    let plan =
        lab.sh("tty; stty size; ls -l /dev/console; read line; echo got $line; stty size; echo > /dev/tty");
    let process = lab.runtime.launch(plan, Stdio::Terminal { width: 100, height: 30 }).unwrap();
    let Some(Ends::Terminal(master)) = process.take_stdio() else { panic!() };
    let start = read_until(&master, "console\r\n");
    assert!(start.starts_with("/dev/pts/0\r\n30 100\r\ncrw--w----"), "{start:?}");
    process.resize(50, 20).unwrap();
    write(&master, "word\n");
    let rest = read_until(&master, "20 50");
    assert!(rest.contains("got word"), "{rest:?}");
    read(master);
    assert_eq!(lab.wait(&process).code, Some(0));
    lab.runtime.release(process.id()).unwrap();
}

fn signals_arrive(lab: &Lab) {
    let plan = lab.sh("trap 'echo caught; exit 7' TERM; echo ready; while true; do sleep 0.01; done");
    let process = lab.runtime.launch(plan, PIPES).unwrap();
    let Some(Ends::Pipes { stdout, .. }) = process.take_stdio() else { panic!() };
    read_until(&stdout, "ready");
    process.signal(libc::SIGTERM).unwrap();
    assert_eq!(lab.wait(&process).code, Some(7));
    lab.runtime.release(process.id()).unwrap();
    let process = lab.idle();
    process.signal(libc::SIGKILL).unwrap();
    assert_eq!(lab.wait(&process).docker_code(), 137);
    assert_eq!(process.signal(libc::SIGTERM).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    lab.runtime.release(process.id()).unwrap();
}

fn init_reaps_and_passes_signals_on(lab: &Lab) {
    let mut plan = lab
        .sh("echo $$; (sh -c 'sleep 0.01 &') ; trap 'exit 9' TERM; sleep 0.1; ls /proc | grep -c '^[0-9]'; \
         cat /proc/1/comm; ls /proc/1/fd | wc -l; echo ready; while true; do sleep 0.01; done");
    plan.init = true;
    let process = lab.runtime.launch(plan, PIPES).unwrap();
    let Some(Ends::Pipes { stdout, .. }) = process.take_stdio() else { panic!() };
    let seen = read_until(&stdout, "ready");
    // PID 1, the shell, and the two of the pipe: the orphan is reaped.
    assert!(seen.starts_with("2\n4\ndocker-init\n"), "{seen:?}");
    process.signal(libc::SIGTERM).unwrap();
    assert_eq!(lab.wait(&process).code, Some(9));
    assert_eq!(read(stdout), "");
    lab.runtime.release(process.id()).unwrap();
    let mut plan = lab.plan(&["no-such-program"]);
    plan.init = true;
    assert_eq!(lab.refuse(plan).exit_code(), 127);
}

fn exec_joins_the_container(lab: &Lab) {
    let mut plan = lab.sh("echo here > /tmp/mark; echo ready; sleep 1000");
    plan.hostname = "joined".to_owned();
    let container = lab.runtime.launch(plan, PIPES).unwrap();
    let Some(Ends::Pipes { stdout, .. }) = container.take_stdio() else { panic!() };
    read_until(&stdout, "ready");
    let output =
        lab.exec(&container, &["sh", "-c", "cat /tmp/mark; hostname; grep ^0 /proc/self/cgroup; exit 5"]);
    assert_eq!((output.code, output.stdout.as_str()), (5, "here\njoined\n0::/\n"), "{output:?}");
    for name in ["mnt", "uts", "ipc", "net", "pid", "cgroup"] {
        let link = format!("/proc/{}/ns/{name}", container.pid());
        let expected = fs::read_link(link).unwrap();
        let path = format!("/proc/self/ns/{name}");
        let found = lab.exec(&container, &["readlink", &path]).stdout;
        assert_eq!(found.trim(), expected.to_str().unwrap());
    }
    let mut plan = lab.exec_plan(&container, &["id", "-u"]);
    plan.user.user = "www".to_owned();
    let process = lab.runtime.exec(plan, PIPES).unwrap();
    assert_eq!(lab.finish(&process).stdout, "33\n");
    lab.runtime.release_exec(container.id(), process.id()).unwrap();
    lab.end(&container);
}

fn exec_has_its_own_terminal_and_errors(lab: &Lab) {
    let container = lab.idle();
    let plan = lab.exec_plan(&container, &["sh", "-c", "tty; stty size"]);
    let process = lab.runtime.exec(plan, Stdio::Terminal { width: 80, height: 25 }).unwrap();
    let Some(Ends::Terminal(master)) = process.take_stdio() else { panic!() };
    assert_eq!(read(master), "/dev/pts/0\r\n25 80\r\n");
    assert_eq!(lab.wait(&process).code, Some(0));
    lab.runtime.release_exec(container.id(), process.id()).unwrap();

    let error = lab.runtime.exec(lab.exec_plan(&container, &["nope"]), PIPES).unwrap_err();
    assert_eq!(error.exit_code(), 127);
    assert_eq!(
        error.to_string(),
        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nope\": executable file not \
         found in $PATH: unknown"
    );
    let mut plan = lab.exec_plan(&container, &["true"]);
    plan.cwd = "/nowhere".to_owned();
    let error = lab.runtime.exec(plan, PIPES).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("chdir to cwd (\"/nowhere\") set in config.json failed: no such file or directory"),
        "{error}"
    );
    lab.end(&container);
}

fn exec_after_the_end_is_refused(lab: &Lab) {
    let container = lab.idle();
    let plan = lab.exec_plan(&container, &["true"]);
    lab.end(&container);
    assert_eq!(lab.runtime.exec(plan, PIPES).unwrap_err().failure, runtime::Failure::NotRunning);
}

fn namespaces_can_be_shared(lab: &Lab) {
    let first = lab.idle();
    let link = |pid: i32, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    let mut plan = lab.plan(&["sleep", "1000"]);
    plan.namespaces.net = NamespaceMode::Join(first.namespace(NamespaceKind::Net).unwrap());
    plan.namespaces.pid = NamespaceMode::Join(first.namespace(NamespaceKind::Pid).unwrap());
    plan.namespaces.uts = NamespaceMode::Host;
    let second = lab.runtime.launch(plan, PIPES).unwrap();
    for name in ["net", "pid"] {
        assert_eq!(link(first.pid(), name), link(second.pid(), name));
    }
    assert_eq!(link(second.pid(), "uts"), fs::read_link("/proc/self/ns/uts").unwrap());
    assert_ne!(link(first.pid(), "mnt"), link(second.pid(), "mnt"));
    // The next one is born at home again.
    let third = lab.idle();
    assert_ne!(link(first.pid(), "pid"), link(third.pid(), "pid"));
    for process in [second, first, third] {
        lab.end(&process);
    }
}

fn the_cgroup_freezes_and_kills(lab: &Lab) {
    let container = lab.idle();
    let cgroup = lab.runtime.cgroup(container.id());
    assert_eq!(cgroup.pids().unwrap(), [container.pid()]);
    cgroup.freeze().unwrap();
    let events = fs::read_to_string(cgroup.path().unwrap().join("cgroup.events")).unwrap();
    assert!(events.contains("frozen 1"), "{events}");
    cgroup.thaw().unwrap();
    assert_eq!(lab.exec(&container, &["echo", "awake"]).stdout, "awake\n");
    assert!(cgroup.stats().unwrap().cpu.usage_usec > 0);
    assert_eq!(cgroup.oom_kills().unwrap(), 0);
    cgroup.kill().unwrap();
    assert_eq!(lab.wait(&container).signal, Some(libc::SIGKILL));
    let path = cgroup.path().unwrap().to_owned();
    lab.runtime.release(container.id()).unwrap();
    assert!(!path.exists());
}

fn privileged_sees_every_device(lab: &Lab) {
    let mut plan = lab.sh("ls /dev; touch /sys/fs/cgroup/x 2>/dev/null; cat /proc/self/mounts");
    plan.privileged = true;
    plan.masked_paths.clear();
    plan.readonly_paths.clear();
    let output = lab.run(plan).stdout;
    assert!(output.contains("vda"), "{output}");
    assert!(output.contains("sysfs /sys sysfs rw"), "{output}");
}

fn seccomp_filters_are_loaded(lab: &Lab) {
    // Loads the number of the system call; mkdir and mkdirat fail with EPERM, all else is allowed.
    let instruction = |code: u16, yes: u8, no: u8, value: u32| {
        let mut bytes = code.to_ne_bytes().to_vec();
        bytes.extend([yes, no]);
        bytes.extend(value.to_ne_bytes());
        bytes
    };
    let filter = [
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 1, 0, libc::SYS_mkdirat as u32),
        instruction(0x15, 0, 1, if cfg!(target_arch = "x86_64") { 83 } else { libc::SYS_mkdirat as u32 }),
        instruction(0x06, 0, 0, 0x0005_0000 | libc::EPERM as u32),
        instruction(0x06, 0, 0, 0x7fff_0000),
    ]
    .concat();
    for (user, no_new_privileges) in [("", false), ("www", false), ("www", true)] {
        let mut plan = lab.sh("grep Seccomp: /proc/self/status; mkdir /tmp/x; id -u");
        plan.user.user = user.to_owned();
        plan.no_new_privileges = no_new_privileges;
        plan.seccomp = Some(filter.clone());
        let output = lab.run(plan);
        assert!(output.stdout.starts_with("Seccomp:\t2\n"), "{output:?}");
        assert!(output.stderr.contains("Operation not permitted"), "{output:?}");
    }
}
