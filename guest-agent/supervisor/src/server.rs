//! The supervisor's loop: signals, the engine's life, and what the engine asks.
//!
//! One thread, no timers while all is well: it sleeps in `poll` until a signal or a request comes.

use std::collections::VecDeque;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use sys::process::{Cloned, Ending};
use sys::signal;

use crate::children::Children;
use crate::wire::{self, Call, Event, ExitStatus, Request};

/// How the engine is started. `--supervisor-fd N` is appended to its arguments.
#[derive(Debug, Clone)]
pub struct EngineCommand {
    /// The program, usually this one.
    pub program: PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<OsString>,
    /// How long it may take to end after SIGTERM before it is killed.
    pub stop_timeout: Duration,
}

/// Why the supervisor's work is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// It was told to stop, and the engine has ended so.
    Stopped(Ending),
    /// The engine ended by itself and well.
    Finished,
    /// The engine ended before it had come up: starting it again would end the same way.
    EngineFailed(Ending),
}

/// What to do about a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Stop the engine and then end.
    Stop,
    /// Send it on to the engine.
    PassOn,
    /// Nothing.
    Ignore,
}

/// What PID 1 does beyond supervising. Every method has a default that suits an ordinary process.
pub trait Hooks {
    /// A signal other than SIGCHLD has come.
    fn signal(&mut self, signal: i32) -> Action {
        match signal {
            // SIGINT is what the kernel sends PID 1 for Ctrl-Alt-Del, SIGPWR what a power monitor sends.
            libc::SIGTERM | libc::SIGINT | libc::SIGQUIT | libc::SIGPWR => Action::Stop,
            _ => Action::Ignore,
        }
    }

    /// A process that nobody here started, an orphan of some child, has ended and was reaped.
    fn orphan(&mut self, _pid: i32, _ending: Ending) {}

    /// The engine was started; `restarts` is 0 for the first time.
    fn engine_started(&mut self, _pid: i32, _restarts: u32) {}
}

/// No hooks: the defaults.
impl Hooks for () {}

/// An engine that ran this long has come up even if it did not say so.
const SETTLED: Duration = Duration::from_secs(2);
/// The pause before the second of two restarts in a row; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between restarts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An engine that ran this long starts the pauses over.
const HEALTHY: Duration = Duration::from_secs(20);
/// How long killed children may take to end when the supervisor itself ends.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// The engine's descriptor for its socket to the supervisor.
const ENGINE_FD: i32 = 3;

/// Supervises until the engine is done. Call it first thing in `main`, before any thread exists.
pub fn run(engine: EngineCommand, hooks: impl Hooks) -> io::Result<ExitReason> {
    signal::block_all()?;
    let signals = signal::Descriptor::open()?;
    if rustix::process::getpid() != rustix::process::Pid::INIT {
        sys::process::set_subreaper()?;
    }
    raise_descriptor_limit();
    let children = Children::new()?;
    let mut server = Server { command: engine, hooks, children, engine: None, stopping: None, restarts: 0 };
    server.start_engine()?;
    let reason = server.serve(&signals)?;
    server.end_children(&signals)?;
    Ok(reason)
}

struct Server<H> {
    command: EngineCommand,
    hooks: H,
    children: Children,
    engine: Option<Engine>,
    /// When the engine has to be gone, once it was told to.
    stopping: Option<Instant>,
    restarts: u32,
}

struct Engine {
    pidfd: OwnedFd,
    pid: i32,
    socket: OwnedFd,
    outgoing: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    since: Instant,
    ready: bool,
    /// Whether its end of the socket is still open.
    heard: bool,
    pause: Duration,
}

/// What the loop waits for besides descriptors.
enum Next {
    Continue,
    RestartAt(Instant, Duration),
    End(ExitReason),
}

impl<H: Hooks> Server<H> {
    fn serve(&mut self, signals: &signal::Descriptor) -> io::Result<ExitReason> {
        let mut restart: Option<(Instant, Duration)> = None;
        loop {
            let deadline = [self.stopping, restart.map(|(at, _)| at)].into_iter().flatten().min();
            let (signalled, heard) = self.wait(signals, deadline)?;
            if heard {
                self.hear();
            }
            if signalled {
                match self.take_signals(signals)? {
                    Next::Continue => {}
                    Next::RestartAt(at, pause) => restart = Some((at, pause)),
                    Next::End(reason) => return Ok(reason),
                }
            }
            if let Some(engine) = &mut self.engine {
                engine.flush();
            }
            self.keep_time(&mut restart)?;
            if let (None, Some(_)) = (&self.engine, self.stopping) {
                // It was told to stop while no engine ran.
                return Ok(ExitReason::Stopped(Ending::Code(0)));
            }
        }
    }

    /// Sleeps; says whether signals wait and whether the engine has said something.
    fn wait(&self, signals: &signal::Descriptor, deadline: Option<Instant>) -> io::Result<(bool, bool)> {
        let timeout = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        if let Some(engine) = self.engine.as_ref().filter(|engine| engine.heard) {
            let out = if engine.outgoing.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            fds.push(PollFd::new(&engine.socket, PollFlags::IN | out));
        }
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let signalled = !fds[0].revents().is_empty();
        let heard = fds.get(1).is_some_and(|fd| fd.revents().intersects(PollFlags::IN));
        Ok((signalled, heard))
    }

    fn keep_time(&mut self, restart: &mut Option<(Instant, Duration)>) -> io::Result<()> {
        let now = Instant::now();
        if let (Some(at), Some(engine)) = (self.stopping, &self.engine)
            && at <= now
        {
            tracing::warn!("the engine did not stop in time; killing it");
            signal::send_to(engine.pidfd.as_fd(), libc::SIGKILL)?;
            self.stopping = Some(now + LAST_WAIT);
        }
        if let Some((at, pause)) = *restart
            && at <= now
            && self.stopping.is_none()
        {
            *restart = None;
            self.restarts += 1;
            self.start_engine()?;
            if let Some(engine) = &mut self.engine {
                engine.pause = pause;
            }
        }
        Ok(())
    }

    fn take_signals(&mut self, signals: &signal::Descriptor) -> io::Result<Next> {
        let mut next = Next::Continue;
        while let Some(signal) = signals.next()? {
            if signal == libc::SIGCHLD {
                continue;
            }
            let action = self.hooks.signal(signal);
            match (action, &self.engine) {
                (Action::Stop, Some(engine)) => {
                    self.stopping.get_or_insert_with(|| Instant::now() + self.command.stop_timeout);
                    send_if_alive(engine.pidfd.as_fd(), libc::SIGTERM)?;
                }
                (Action::Stop, None) => self.stopping = Some(Instant::now()),
                (Action::PassOn, Some(engine)) => send_if_alive(engine.pidfd.as_fd(), signal)?,
                (Action::PassOn, None) | (Action::Ignore, _) => {}
            }
        }
        // Signals merge, so SIGCHLD says only that somebody may have ended.
        while let Some((pid, ending)) = sys::process::reap()? {
            if let Next::Continue = next {
                next = self.ended(pid, ending);
            } else {
                self.ended(pid, ending);
            }
        }
        Ok(next)
    }

    fn ended(&mut self, pid: i32, ending: Ending) -> Next {
        if self.engine.as_ref().is_some_and(|engine| engine.pid == pid) {
            return self.engine_ended(ending);
        }
        let (code, signal) = match ending {
            Ending::Code(code) => (Some(code), None),
            Ending::Signal(signal) => (None, Some(signal)),
        };
        let status = ExitStatus { code, signal, at: SystemTime::now() };
        match self.children.ended(pid, status) {
            Some(key) => {
                if let Some(engine) = &mut self.engine {
                    engine.tell(&Event::Exited { key, status }, Vec::new());
                }
            }
            None => self.hooks.orphan(pid, ending),
        }
        Next::Continue
    }

    fn engine_ended(&mut self, ending: Ending) -> Next {
        let Some(engine) = self.engine.take() else { return Next::Continue };
        if self.stopping.is_some() {
            return Next::End(ExitReason::Stopped(ending));
        }
        if ending == Ending::Code(0) {
            return Next::End(ExitReason::Finished);
        }
        let lived = engine.since.elapsed();
        if self.restarts == 0 && !engine.ready && lived < SETTLED {
            return Next::End(ExitReason::EngineFailed(ending));
        }
        let pause = if lived >= HEALTHY { Duration::ZERO } else { engine.pause };
        tracing::error!(?ending, ?pause, "the engine ended; starting it again");
        let following = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        Next::RestartAt(Instant::now() + pause, following)
    }

    fn start_engine(&mut self) -> io::Result<()> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let program = c_string(self.command.program.clone().into_os_string())?;
        let mut arguments = vec![program.clone()];
        for argument in self.command.args.iter().cloned() {
            arguments.push(c_string(argument)?);
        }
        arguments.push(c_string("--supervisor-fd".into())?);
        arguments.push(c_string(ENGINE_FD.to_string().into())?);
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let mut pair = name;
            pair.push("=");
            pair.push(value);
            environment.push(c_string(pair)?);
        }
        match sys::process::fork()? {
            Cloned::Parent { pid, pidfd } => {
                self.engine = Some(Engine {
                    pidfd,
                    pid,
                    socket: ours,
                    outgoing: VecDeque::new(),
                    since: Instant::now(),
                    ready: false,
                    heard: true,
                    pause: Duration::ZERO,
                });
                self.hooks.engine_started(pid, self.restarts);
                Ok(())
            }
            Cloned::Child => {
                let failed = become_engine(theirs, &program, &arguments, &environment);
                tracing::error!(error = ?failed, program = ?program, "the engine cannot be started");
                sys::process::exit_now(127)
            }
        }
    }

    /// Takes what the engine has asked so far.
    fn hear(&mut self) {
        loop {
            let Some(engine) = &mut self.engine else { return };
            match wire::receive::<Request>(engine.socket.as_fd(), RecvFlags::DONTWAIT) {
                Ok(Some((request, fds))) => self.answer(request, fds),
                // The end of the stream. SIGCHLD for the engine follows; until then there is nothing to wake up for.
                Ok(None) => {
                    engine.heard = false;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(%error, "the engine said something unknown");
                }
                Err(error) => {
                    tracing::error!(%error, "the engine cannot be heard");
                    return;
                }
            }
        }
    }

    fn answer(&mut self, Request { id: to, call }: Request, fds: Vec<OwnedFd>) {
        let Some(engine) = &mut self.engine else { return };
        let done = match call {
            Call::Spawn { key, namespaces, cgroup, pid_namespace, passed, held } => {
                let wanted = crate::children::Wanted {
                    key,
                    namespaces,
                    cgroup,
                    pid_namespace,
                    passed: passed.into(),
                    held,
                };
                match self.children.spawn(wanted, fds) {
                    Ok((pid, pidfd)) => {
                        engine.tell(&Event::Spawned { to, pid }, vec![pidfd]);
                        return;
                    }
                    Err(error) => Err(error),
                }
            }
            Call::List => self.children.list().map(|children| {
                for (key, pid, exit, roles, fds) in children {
                    engine.tell(&Event::Held { to, key, pid, exit, roles }, fds);
                }
            }),
            Call::Hold { key, roles } => self.children.hold(&key, roles, fds),
            Call::Unhold { key, role } => self.children.unhold(&key, role),
            Call::Release { key } => self.children.release(&key),
            Call::Discard { key } => self.children.discard(&key),
            Call::Ready => {
                engine.ready = true;
                Ok(())
            }
        };
        let event = match done {
            Ok(()) => Event::Done { to },
            Err(error) => Event::Failed { to, errno: error.raw_os_error().unwrap_or(libc::EIO) },
        };
        engine.tell(&event, Vec::new());
    }

    /// Kills what still runs: nobody would hold its streams or take its status.
    fn end_children(&mut self, signals: &signal::Descriptor) -> io::Result<()> {
        let deadline = Instant::now() + LAST_WAIT;
        self.children.kill_all();
        loop {
            while let Some((pid, ending)) = sys::process::reap()? {
                self.ended(pid, ending);
            }
            if self.children.all_ended() || Instant::now() >= deadline {
                return Ok(());
            }
            self.wait(signals, Some(deadline))?;
            while signals.next()?.is_some() {}
        }
    }
}

impl Engine {
    fn tell(&mut self, event: &Event, fds: Vec<OwnedFd>) {
        match wire::encode(event) {
            Ok(record) => self.outgoing.push_back((record, fds)),
            Err(error) => tracing::error!(%error, "an event cannot be told"),
        }
        self.flush();
    }

    /// Sends what the socket takes now. A slow engine never holds up the supervisor.
    fn flush(&mut self) {
        while let Some((record, fds)) = self.outgoing.front() {
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            match wire::send(self.socket.as_fd(), record, &fds, SendFlags::DONTWAIT) {
                Ok(()) => {
                    self.outgoing.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The engine is gone; SIGCHLD follows, and the next one asks for everything again.
                Err(_) => {
                    self.outgoing.clear();
                    return;
                }
            }
        }
    }
}

fn become_engine(
    socket: OwnedFd,
    program: &CString,
    arguments: &[CString],
    environment: &[CString],
) -> io::Result<std::convert::Infallible> {
    signal::reset()?;
    sys::process::set_parent_death_signal(libc::SIGTERM)?;
    sys::process::duplicate_to(socket.as_fd(), ENGINE_FD)?;
    sys::process::cloexec_from(ENGINE_FD + 1)?;
    sys::process::execute(program, arguments, environment)
}

/// Thousands of containers have thousands of pipes. What the engine and the children inherit is theirs to lower.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(1 << 20);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

fn send_if_alive(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    match signal::send_to(pidfd, signal) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result,
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() }
}

fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}
