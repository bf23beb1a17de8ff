//! The language of the tests: a runtime, root file systems, and programs run in them.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use runtime::{
    Ends, ExecPlan, ExitStatus, LaunchError, LaunchPlan, Process, Rootfs, Runtime, RuntimeConfig, Stdio,
};

pub(crate) const PIPES: Stdio = Stdio::Pipes { stdin: false };

const APPLETS: &str = "cat cp dd echo env false grep head hostname id kill ln ls mkdir mknod mount printf ps pwd \
     readlink rm sh sleep stat stty sync tail test touch tr true tty umount unshare wc";

pub(crate) struct Lab {
    pub(crate) runtime: Runtime,
    pub(crate) supervisor: supervisor::Client,
    directory: tempfile::TempDir,
    pub(crate) cgroup_parent: String,
    tokio: tokio::runtime::Runtime,
    count: AtomicU32,
}

/// What a program has left behind.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i64,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Lab {
    pub(crate) fn open(fd: &str) -> Lab {
        let cgroup_parent = format!("sampan-test-{}", std::process::id());
        let (runtime, supervisor) = connect(fd, &cgroup_parent);
        let directory = tempfile::tempdir().unwrap();
        make_image(&directory.path().join("image"));
        fs::create_dir(directory.path().join("target")).unwrap();
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Lab { runtime, supervisor, directory, cgroup_parent, tokio, count: AtomicU32::new(0) }
    }

    /// Ends what failed tests have left, and removes what the tests share.
    pub(crate) fn close(self) {
        for held in self.supervisor.held().unwrap() {
            self.supervisor.discard(&held.key).unwrap();
            if let Some(id) = held.key.strip_prefix("container/") {
                self.runtime.release(id).unwrap();
            }
        }
        remove_parent(&self.runtime, &self.cgroup_parent);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A fresh root file system over the image.
    pub(crate) fn rootfs(&self) -> Rootfs {
        let own = self.path(&format!("c{}", self.count.fetch_add(1, Ordering::Relaxed)));
        fresh_rootfs(self.directory.path(), &own)
    }

    pub(crate) fn plan(&self, args: &[&str]) -> LaunchPlan {
        let rootfs = self.rootfs();
        let id = rootfs.upper.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let mut plan = LaunchPlan::new(id, rootfs, args.iter().map(|word| (*word).to_owned()).collect());
        plan.env = vec!["PATH=/usr/bin:/bin".to_owned()];
        plan
    }

    pub(crate) fn sh(&self, script: &str) -> LaunchPlan {
        self.plan(&["sh", "-c", script])
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, plan: LaunchPlan) -> Output {
        let process = self.runtime.launch(plan, PIPES).unwrap_or_else(|error| panic!("{error}"));
        let output = self.finish(&process);
        self.runtime.release(process.id()).unwrap();
        output
    }

    pub(crate) fn refuse(&self, plan: LaunchPlan) -> LaunchError {
        let id = plan.id.clone();
        let error = self.runtime.launch(plan, PIPES).expect_err("it should not start");
        let cgroup = self.runtime.cgroup(&id);
        assert!(cgroup.path().is_ok_and(|path| !path.exists()), "its cgroup is left");
        assert!(
            self.supervisor.held().unwrap().iter().all(|held| !held.key.ends_with(&id)),
            "it is still held"
        );
        error
    }

    /// Starts one that sleeps until it is ended.
    pub(crate) fn idle(&self) -> Process {
        self.runtime.launch(self.plan(&["sleep", "1000"]), PIPES).unwrap()
    }

    pub(crate) fn exec(&self, container: &Process, args: &[&str]) -> Output {
        let process =
            self.runtime.exec(self.exec_plan(container, args), PIPES).unwrap_or_else(|e| panic!("{e}"));
        let output = self.finish(&process);
        self.runtime.release_exec(container.id(), process.id()).unwrap();
        output
    }

    pub(crate) fn exec_plan(&self, container: &Process, args: &[&str]) -> ExecPlan {
        let id = format!("x{}", self.count.fetch_add(1, Ordering::Relaxed));
        let mut plan =
            ExecPlan::new(id, container.id(), args.iter().map(|word| (*word).to_owned()).collect());
        plan.env = vec!["PATH=/usr/bin:/bin".to_owned()];
        plan
    }

    pub(crate) fn finish(&self, process: &Process) -> Output {
        let Some(Ends::Pipes { stdin, stdout, stderr }) = process.take_stdio() else { panic!("no pipes") };
        drop(stdin);
        let _ = process.close_stdin();
        let errors = std::thread::spawn(move || read(stderr));
        let stdout = read(stdout);
        let stderr = errors.join().unwrap();
        Output { code: self.wait(process).docker_code(), stdout, stderr }
    }

    pub(crate) fn wait(&self, process: &Process) -> ExitStatus {
        self.tokio
            .block_on(async { tokio::time::timeout(Duration::from_secs(20), process.wait()).await })
            .expect("it should have ended long ago")
    }

    pub(crate) fn end(&self, process: &Process) {
        process.signal(libc::SIGKILL).unwrap();
        self.wait(process);
        self.runtime.release(process.id()).unwrap();
    }
}

pub(crate) fn connect(fd: &str, cgroup_parent: &str) -> (Runtime, supervisor::Client) {
    let socket = sys::process::adopt_descriptor(fd.parse().unwrap()).unwrap();
    let supervisor = supervisor::Client::connect(socket).unwrap();
    let config = RuntimeConfig { cgroup_parent: cgroup_parent.to_owned(), supervisor: supervisor.clone() };
    (Runtime::new(config).unwrap(), supervisor)
}

pub(crate) fn remove_parent(runtime: &Runtime, cgroup_parent: &str) {
    if let Some(root) = &runtime.host().cgroup_root {
        fs::remove_dir(root.join(cgroup_parent)).expect("no cgroup should be left below ours");
    }
}

pub(crate) fn fresh_rootfs(directory: &Path, own: &Path) -> Rootfs {
    for name in ["upper", "work"] {
        fs::create_dir_all(own.join(name)).unwrap();
    }
    Rootfs {
        lowers: vec![directory.join("image")],
        upper: own.join("upper"),
        work: own.join("work"),
        target: directory.join("target"),
    }
}

pub(crate) fn make_image(image: &Path) {
    for name in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(image.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", image.join("bin/busybox")).unwrap();
    for applet in APPLETS.split_whitespace() {
        symlink("busybox", image.join("bin").join(applet)).unwrap();
    }
    fs::write(image.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/var/www:/bin/sh\n")
        .unwrap();
    fs::write(image.join("etc/group"), "root:x:0:\nwww:x:34:\naudio:x:29:www\n").unwrap();
}

pub(crate) fn read(fd: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // A terminal whose last user is gone says EIO.
    let _ = File::from(fd).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn write(fd: &OwnedFd, text: &str) {
    File::from(fd.try_clone().unwrap()).write_all(text.as_bytes()).unwrap();
}

/// Reads until `text` has come.
pub(crate) fn read_until(fd: &OwnedFd, text: &str) -> String {
    let mut file = File::from(fd.try_clone().unwrap());
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.contains(text) {
        let count = file.read(&mut buffer).unwrap_or(0);
        assert!(count > 0, "it ended after {seen:?}, before {text:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    seen
}
