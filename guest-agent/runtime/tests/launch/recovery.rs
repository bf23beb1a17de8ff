//! The engine dies, and another one finds everything as it was.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio as Standard};

use runtime::{Ends, ExecPlan, LaunchPlan, Stdio};

use crate::cases::Case;
use crate::lab::{self, Lab, PIPES, fresh_rootfs, read, read_until, write};

pub(crate) const ALL: &[Case] = &[
    ("a_new_engine_adopts_what_runs", a_new_engine_adopts_what_runs),
    ("an_engine_that_cannot_start_is_not_restarted", an_engine_that_cannot_start_is_not_restarted),
    ("stopping_ends_the_engine_and_what_it_left", stopping_ends_the_engine_and_what_it_left),
];

fn an_engine_that_cannot_start_is_not_restarted(lab: &Lab) {
    let program = std::env::current_exe().unwrap();
    let output =
        Command::new(program).args(["supervise", "failing-engine"]).arg(lab.path("none")).output().unwrap();
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.matches("EngineFailed(Code(3))").count(), 1, "{errors}");
}

fn stopping_ends_the_engine_and_what_it_left(lab: &Lab) {
    let directory = lab.path("stopping");
    fs::create_dir(&directory).unwrap();
    lab::make_image(&directory.join("image"));
    fs::create_dir(directory.join("target")).unwrap();
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program)
        .args(["supervise", "stopping-engine"])
        .arg(&directory)
        .stdout(Standard::piped())
        .stderr(Standard::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid: i32 = line.trim().parse().unwrap();
    let supervisor = child.id();
    sys::signal::send(supervisor as i32, libc::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("Stopped(Signal(15))"), "{errors}");
    assert_eq!(sys::signal::send(pid, 0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    if let Some(root) = &lab.runtime.host().cgroup_root {
        let parent = root.join(format!("sampan-stopping-{supervisor}"));
        fs::remove_dir(parent.join("left")).unwrap();
        fs::remove_dir(parent).unwrap();
    }
}

/// Starts a container and leaves it running.
pub(crate) fn stopping_engine(directory: &Path, fd: &str) -> ExitCode {
    let parent = rustix::process::getppid().unwrap().as_raw_nonzero();
    let (runtime, supervisor) = lab::connect(fd, &format!("sampan-stopping-{parent}"));
    supervisor.ready().unwrap();
    let args = ["sleep", "1000"].map(str::to_owned).to_vec();
    let mut plan = LaunchPlan::new("left", fresh_rootfs(directory, &directory.join("left")), args);
    plan.env = vec!["PATH=/bin".to_owned()];
    println!("{}", runtime.launch(plan, PIPES).unwrap().pid());
    loop {
        std::thread::park();
    }
}

/// Has another supervisor of its own, whose engine kills itself and checks everything in its second life.
fn a_new_engine_adopts_what_runs(lab: &Lab) {
    let directory = lab.path("recovery");
    fs::create_dir(&directory).unwrap();
    lab::make_image(&directory.join("image"));
    fs::create_dir(directory.join("target")).unwrap();
    let program = std::env::current_exe().unwrap();
    let output =
        Command::new(program).arg("supervise").arg("crashing-engine").arg(&directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(directory.join("verified").exists());
}

pub(crate) fn crashing_engine(directory: &Path, fd: &str) -> ExitCode {
    let parent = format!("sampan-recovery-{}", rustix::process::getppid().unwrap().as_raw_nonzero());
    let (runtime, supervisor) = lab::connect(fd, &parent);
    if directory.join("crashed").exists() {
        second_life(directory, &runtime);
        lab::remove_parent(&runtime, &parent);
        fs::write(directory.join("verified"), "").unwrap();
        return ExitCode::SUCCESS;
    }
    supervisor.ready().unwrap();
    let launch = |id: &str, script: &str, stdio: Stdio| {
        let rootfs = fresh_rootfs(directory, &directory.join(id));
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        let mut plan = LaunchPlan::new(id, rootfs, args);
        plan.env = vec!["PATH=/bin".to_owned()];
        runtime.launch(plan, stdio).unwrap()
    };
    let talker = launch("talker", "read a; echo $a; read b; echo $b; exit 3", Stdio::Pipes { stdin: true });
    launch("terminal", "read a; echo got $a", Stdio::Terminal { width: 80, height: 24 });
    let gone = launch("gone", "exit 4", PIPES);
    launch("unknown", "sleep 1000", PIPES);
    let exec = ["sh", "-c", "read x; exit 6"].map(str::to_owned).to_vec();
    let mut exec = ExecPlan::new("e1", "talker", exec);
    exec.env = vec!["PATH=/bin".to_owned()];
    runtime.exec(exec, Stdio::Pipes { stdin: true }).unwrap();
    let Some(Ends::Pipes { stdin: Some(stdin), .. }) = talker.take_stdio() else { panic!() };
    // Written, but never read by this engine.
    write(&stdin, "first\n");
    tokio().block_on(gone.wait());
    fs::write(directory.join("crashed"), "").unwrap();
    sys::signal::send(std::process::id() as i32, libc::SIGKILL).unwrap();
    unreachable!("it was killed");
}

fn second_life(directory: &Path, runtime: &runtime::Runtime) {
    assert_eq!(runtime.leftovers().len(), 5);
    let talker = runtime.adopt("talker").expect("it still runs");
    let Some(Ends::Pipes { stdin: Some(stdin), stdout, .. }) = talker.take_stdio() else { panic!() };
    assert_eq!(read_until(&stdout, "first\n"), "first\n");

    let exec = runtime.adopt_exec("talker", "e1").expect("it still runs");
    let Some(Ends::Pipes { stdin: Some(exec_stdin), .. }) = exec.take_stdio() else { panic!() };
    write(&exec_stdin, "go\n");
    assert_eq!(tokio().block_on(exec.wait()).code, Some(6));
    runtime.release_exec("talker", "e1").unwrap();

    write(&stdin, "second\n");
    assert_eq!(tokio().block_on(talker.wait()).code, Some(3));
    assert_eq!(read(stdout), "second\n");
    runtime.release("talker").unwrap();

    let gone = runtime.adopt("gone").expect("its status was kept");
    assert_eq!(gone.exit_status().unwrap().code, Some(4));
    runtime.release("gone").unwrap();

    let terminal = runtime.adopt("terminal").expect("it still runs");
    assert!(terminal.is_terminal());
    terminal.resize(90, 30).unwrap();
    let Some(Ends::Terminal(master)) = terminal.take_stdio() else { panic!() };
    write(&master, "typed\n");
    read_until(&master, "got typed");
    assert_eq!(tokio().block_on(terminal.wait()).code, Some(0));
    runtime.release("terminal").unwrap();

    let unknown = runtime.cgroup("unknown");
    assert_eq!(unknown.pids().unwrap().len(), 1);
    runtime.discard_leftovers().unwrap();
    assert!(!unknown.path().unwrap().exists());
    assert!(runtime.adopt("unknown").is_none());
    assert!(directory.exists());
}

fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}
