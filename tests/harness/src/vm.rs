//! A VM as users start it: by the `sampan` command, with a home of its own.

use std::{
    ffi::OsStr,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{Output, Sandbox, eventually, settings};

/// A started VM; stopped when dropped.
pub struct Vm {
    sandbox: Arc<Sandbox>,
    home: PathBuf,
    image: PathBuf,
}

impl Vm {
    /// What a VM needs of the machine.
    ///
    /// # Errors
    /// When something is missing, in a sentence.
    pub fn available() -> Result<(), String> {
        Sandbox::available()?;
        settings::sampan()?;
        settings::vm_image()?;
        for name in ["docker", "qemu-system-x86_64", "vhost-device-vsock"] {
            settings::program(name)?;
        }
        Ok(())
    }

    /// Boots a VM in a sandbox of its own.
    #[must_use]
    pub fn start() -> Self {
        Self::start_in(&Arc::new(Sandbox::new()), "vm")
    }

    /// Boots a VM whose home is a folder of the sandbox; what listens on the sandbox's loopback is its host.
    #[must_use]
    pub fn start_in(sandbox: &Arc<Sandbox>, name: &str) -> Self {
        Self::start_image(sandbox, name, settings::vm_image().unwrap_or_else(|lack| panic!("{lack}")))
    }

    /// The same from another image than that of this machine's architecture.
    #[must_use]
    pub fn start_image(sandbox: &Arc<Sandbox>, name: &str, image: PathBuf) -> Self {
        let home = sandbox.path(name);
        fs::create_dir_all(home.join("client")).expect("a home for the VM");
        let vm = Self { sandbox: Arc::clone(sandbox), home, image };
        vm.boot();
        vm
    }

    /// Starts the VM, again when it has been stopped.
    #[track_caller]
    pub fn boot(&self) {
        let output = self.sampan(["start"]);
        assert_eq!(output.code(), Some(0), "{output}\nconsole:\n{}", self.console());
    }

    /// The sandbox that is the VM's host.
    #[must_use]
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }

    /// The path of docker.sock on the host.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.join("run/docker.sock")
    }

    /// The `sampan` command, ready to run on this VM's home.
    #[must_use]
    pub fn sampan_command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.sandbox.command(settings::sampan().unwrap_or_else(|lack| panic!("{lack}")));
        command
            .env("SAMPAN_HOME", &self.home)
            .env("SAMPAN_IMAGE", &self.image)
            .env("SAMPAN_HYPERVISOR", "qemu")
            .env("SAMPAN_TOOLS", settings::root().join("target/tools/bin"))
            .env("DOCKER_CONFIG", self.home.join("client"))
            .args(arguments);
        command
    }

    /// Runs the `sampan` command to its end.
    #[must_use]
    pub fn sampan<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        Output::of(&mut self.sampan_command(arguments))
    }

    /// What `sampan status --json` says.
    #[track_caller]
    #[must_use]
    pub fn status(&self) -> Value {
        self.sampan(["status", "--json"]).json()
    }

    /// The VM's console.
    #[must_use]
    pub fn console(&self) -> String {
        self.sampan(["logs"]).stdout()
    }

    /// The real docker command, ready to run against the engine in the VM.
    #[must_use]
    pub fn docker_command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command =
            self.sandbox.command(settings::program("docker").unwrap_or_else(|lack| panic!("{lack}")));
        command.env("DOCKER_CONFIG", self.home.join("client")).env_remove("DOCKER_CONTEXT");
        command.arg("--host").arg(format!("unix://{}", self.socket().display())).args(arguments);
        command
    }

    /// Runs the docker command to its end.
    #[must_use]
    pub fn docker<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        Output::of(&mut self.docker_command(arguments))
    }

    /// What `docker inspect` says of an object.
    #[track_caller]
    #[must_use]
    pub fn inspect(&self, name: &str) -> Value {
        self.docker(["inspect", name]).success().json()[0].take()
    }

    /// Loads a Docker archive.
    #[track_caller]
    pub fn load(&self, archive: &[u8]) {
        let _ = Output::with_input(&mut self.docker_command(["load"]), archive).success();
    }

    /// Ends QEMU at once, as a power loss would end a machine.
    ///
    /// # Panics
    /// When no VM of this home runs.
    pub fn cut_power(&self) {
        let pid = self.qemu_pid().expect("the VM runs");
        let _ = kill_process(pid, Signal::KILL);
        eventually("QEMU has ended", || self.qemu_pid().is_none().then_some(()));
    }

    /// The QEMU process whose command line names this home.
    fn qemu_pid(&self) -> Option<Pid> {
        let home = self.home.to_str().expect("the home's path is text");
        fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line);
            let program = line.split('\0').next().unwrap_or_default();
            let ours = program.contains("qemu-system") && line.contains(home);
            ours.then(|| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)).flatten()
        })
    }

    /// Stops the VM cleanly.
    #[track_caller]
    pub fn stop(&self) {
        let _ = self.sampan(["stop"]).success();
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the VM's console:\n{}", self.console());
        }
        let _ = self.sampan_command(["stop"]).stdin(Stdio::null()).output();
        if let Some(pid) = self.qemu_pid() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
