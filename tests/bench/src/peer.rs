//! dockerd from Debian's packages, unpacked under `target/peers` and started in a sandbox.
//!
//! Nothing is installed, and the machine's cgroup hierarchies stay untouched: in the sandbox's own
//! mount namespace `/sys/fs/cgroup` is a cgroup v2 hierarchy, which is all that dockerd then sees.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use anyhow::{Context, ensure};
use harness::{Output, Sandbox, eventually, settings};

/// What dockerd needs to run `busybox true` without a network.
const PACKAGES: [&str; 5] = ["docker.io", "containerd", "runc", "tini", "iptables"];

/// A running dockerd.
pub(crate) struct Dockerd {
    sandbox: Arc<Sandbox>,
    process: Child,
}

impl Dockerd {
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::start_in(&Arc::new(Sandbox::new()))
    }

    /// Starts it in a sandbox that it may share.
    pub(crate) fn start_in(sandbox: &Arc<Sandbox>) -> anyhow::Result<Self> {
        let programs = fetch()?;
        let sandbox = Arc::clone(sandbox);
        let enter = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
        let folder = sandbox.path("dockerd");
        fs::create_dir(&folder)?;
        let log = fs::File::create(folder.join("log"))?;
        let process = sandbox
            .command("sh")
            .args(["-c", enter, "sh"])
            .arg(programs.join("usr/sbin/dockerd"))
            .args(["--iptables=false", "--bridge=none"])
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", folder.join("docker.sock").display()))
            .env(
                "PATH",
                format!("{0}/usr/bin:{0}/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin", programs.display()),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let dockerd = Self { sandbox, process };
        eventually("dockerd answers", || dockerd.docker(&["version"]).code().filter(|code| *code == 0));
        Ok(dockerd)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.sandbox.path("dockerd/docker.sock")
    }

    pub(crate) fn load(&self, archive: &[u8]) {
        let _ = Output::with_input(&mut self.client(&["load"]), archive).success();
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        Output::of(&mut self.client(arguments))
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.socket().display())).args(arguments);
        command
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

/// Downloads and unpacks the packages once.
fn fetch() -> anyhow::Result<PathBuf> {
    let folder = settings::target().join("peers");
    let root = folder.join("root");
    if root.join("usr/sbin/dockerd").exists() {
        return Ok(root);
    }
    fs::create_dir_all(&folder)?;
    let download =
        Command::new("apt-get").args(["download", "-qq"]).args(PACKAGES).current_dir(&folder).status()?;
    ensure!(download.success(), "apt-get cannot download {}", PACKAGES.join(", "));
    for entry in fs::read_dir(&folder)?.filter_map(Result::ok) {
        if entry.path().extension().is_some_and(|ending| ending == "deb") {
            let unpacked = Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&root).status()?;
            ensure!(unpacked.success(), "cannot unpack {}", entry.path().display());
        }
    }
    fs::metadata(root.join("usr/sbin/dockerd")).context("the packages hold no dockerd")?;
    Ok(root)
}
