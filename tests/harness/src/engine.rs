//! The engine, started natively in a sandbox, and the real `docker` command that talks to it.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Output, Sandbox, eventually, fixtures, settings};

/// How long an engine may take until its API answers. It takes milliseconds; CI machines stall.
const START: Duration = Duration::from_secs(30);

/// How long it may take to stop: containers have 10 s to heed their signal.
const STOP: Duration = Duration::from_secs(40);

/// A running engine; stopped when dropped.
pub struct Engine {
    sandbox: Arc<Sandbox>,
    process: Option<Child>,
    arguments: Vec<OsString>,
    root: PathBuf,
}

impl Engine {
    /// What an engine needs of the machine.
    ///
    /// # Errors
    /// When something is missing, in a sentence.
    pub fn available() -> Result<(), String> {
        Sandbox::available()?;
        settings::guest_agent()?;
        settings::program("docker")?;
        Ok(())
    }

    /// What an engine with busybox needs of the machine.
    ///
    /// # Errors
    /// When something is missing, in a sentence.
    pub fn with_busybox_available() -> Result<(), String> {
        Self::available()?;
        fixtures::busybox_available()
    }

    /// Starts an engine in a sandbox of its own and loads busybox.
    #[must_use]
    pub fn with_busybox() -> Self {
        let engine = Self::start();
        engine.load(&fixtures::busybox());
        engine
    }

    /// Starts an engine in a sandbox of its own.
    #[must_use]
    pub fn start() -> Self {
        Self::start_in(Arc::new(Sandbox::new()), &[])
    }

    /// Starts an engine with further options in a sandbox that it may share.
    ///
    /// # Panics
    /// When the engine doesn't answer.
    #[must_use]
    pub fn start_in(sandbox: Arc<Sandbox>, options: &[&str]) -> Self {
        let root =
            tempfile::Builder::new().prefix("engine-").tempdir_in(sandbox.folder()).expect("a folder").keep();
        fs::create_dir(root.join("client")).expect("a folder for the client's settings");
        let arguments = ["--data-root", "data", "--exec-root", "exec"]
            .chunks(2)
            .flat_map(|pair| [OsString::from(pair[0]), root.join(pair[1]).into()])
            .chain(options.iter().map(OsString::from))
            .collect();
        let mut engine = Self { sandbox, process: None, arguments, root };
        engine.boot();
        engine
    }

    /// Starts the stopped engine again, on the same data.
    ///
    /// # Panics
    /// When it doesn't answer.
    pub fn boot(&mut self) {
        assert!(self.process.is_none(), "the engine runs already");
        let program = settings::guest_agent().unwrap_or_else(|lack| panic!("{lack}"));
        let log = fs::File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut process = self
            .sandbox
            .command(program)
            .arg("serve")
            .args(&self.arguments)
            .arg("--host")
            .arg(self.address())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the engine's process starts");
        let stdout = process.stdout.take().expect("stdout is piped");
        self.process = Some(process);
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = sender.send(line);
            // Whatever else it prints must find a reader.
            let _ = std::io::copy(&mut stdout.by_ref(), &mut std::io::sink());
        });
        match receiver.recv_timeout(START) {
            Ok(line) if !line.is_empty() => {}
            answer => panic!("the engine didn't answer ({answer:?}):\n{}", self.log()),
        }
    }

    /// The sandbox that the engine runs in.
    #[must_use]
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }

    /// The engine's data root.
    #[must_use]
    pub fn data_root(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The path of the API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("docker.sock")
    }

    /// The folder that is the docker command's `DOCKER_CONFIG`.
    #[must_use]
    pub fn client_settings(&self) -> PathBuf {
        self.root.join("client")
    }

    fn address(&self) -> OsString {
        let mut address = OsString::from("unix://");
        address.push(self.socket());
        address
    }

    fn log_path(&self) -> PathBuf {
        self.root.join("engine.log")
    }

    /// What the engine has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The real docker command, ready to run against this engine.
    #[must_use]
    pub fn docker_command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command =
            self.sandbox.command(settings::program("docker").unwrap_or_else(|lack| panic!("{lack}")));
        command.env("DOCKER_CONFIG", self.client_settings()).env_remove("DOCKER_CONTEXT");
        command.arg("--host").arg(self.address()).args(arguments);
        command
    }

    /// Runs the docker command to its end.
    #[must_use]
    pub fn docker<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        Output::of(&mut self.docker_command(arguments))
    }

    /// Asks the API by curl: `GET` unless the arguments say otherwise.
    #[must_use]
    pub fn api(&self, path: &str, arguments: &[&str]) -> Output {
        let socket = self.socket();
        let mut all: Vec<&OsStr> = vec!["--unix-socket".as_ref(), socket.as_os_str()];
        all.extend(arguments.iter().map(OsStr::new));
        let url = format!("http://engine{path}");
        all.push(url.as_ref());
        self.sandbox.curl(all)
    }

    /// What `docker inspect` says of an object.
    #[track_caller]
    #[must_use]
    pub fn inspect(&self, name: &str) -> serde_json::Value {
        self.docker(["inspect", name]).success().json()[0].take()
    }

    /// Loads a Docker archive.
    #[track_caller]
    pub fn load(&self, archive: &[u8]) {
        let _ = Output::with_input(&mut self.docker_command(["load"]), archive).success();
    }

    /// Ends the engine's process by SIGKILL; the supervisor and the containers stay.
    ///
    /// Returns when the supervisor has started another one and it answers.
    #[track_caller]
    pub fn kill_engine(&self) {
        let before = self.engine_pid().expect("the engine runs");
        kill(before, Signal::KILL);
        eventually("the supervisor starts another engine", || self.engine_pid().filter(|pid| *pid != before));
        eventually("the new engine answers", || {
            (self.api("/_ping", &["--fail"]).code() == Some(0)).then_some(())
        });
    }

    /// The engine's process: the supervisor's child that runs our own program as `engine`.
    #[must_use]
    pub fn engine_pid(&self) -> Option<u32> {
        let supervisor = self.supervisor_pid();
        let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).ok()?;
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|byte| *byte == 0).nth(1) == Some(b"engine"))
        })
    }

    /// The supervisor's process.
    ///
    /// # Panics
    /// When the engine has been stopped.
    #[must_use]
    pub fn supervisor_pid(&self) -> u32 {
        self.process.as_ref().expect("the engine runs").id()
    }

    /// Stops everything by SIGTERM and waits for the end.
    ///
    /// # Panics
    /// When the end doesn't come; then everything is killed first.
    pub fn stop(&mut self) {
        let Some(process) = self.process.as_mut() else { return };
        kill(process.id(), Signal::TERM);
        let began = Instant::now();
        while process.try_wait().is_ok_and(|status| status.is_none()) {
            if began.elapsed() > STOP {
                self.cut_power();
                assert!(thread::panicking(), "the engine didn't stop on SIGTERM:\n{}", self.log());
                return;
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        self.process = None;
    }

    /// Ends everything at once, as a power loss would: supervisor, engine and containers.
    pub fn cut_power(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let tree = descendants(process.id());
        // The supervisor first, so that it doesn't start another engine.
        kill(process.id(), Signal::KILL);
        tree.iter().for_each(|pid| kill(*pid, Signal::KILL));
        let _ = process.wait();
        eventually("everything has ended", || tree.iter().all(|pid| has_ended(*pid)).then_some(()));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the engine's log:\n{}", self.log());
        }
        self.stop();
    }
}

fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // A process that has ended already is what was wanted.
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process is gone, or a zombie that holds nothing any more (proc(5), the state after the name).
fn has_ended(pid: u32) -> bool {
    // The first thread is a zombie already while another one still waits for the disk and holds every descriptor.
    if fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|threads| threads.count() > 1) {
        return false;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with('Z'))
}

/// All processes below this one, children before grandchildren.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            found.push(child);
            open.push(child);
        }
    }
    found
}
