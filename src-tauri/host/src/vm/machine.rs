//! The task that owns the VM: it alone changes its state. Others send requests and watch.
//!
//! Whatever takes time (a boot, a shutdown, a pause) runs in a task beside and comes back as an event, so a
//! request is answered at once in every state. Events carry the number of the boot that they belong to; those of
//! an earlier one are dropped.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::boot::{self, Live, Plan};
use super::state::{Action, Input, STEADY_AFTER, State};
use super::{assets, state};
use crate::docker::context;
use crate::docker::socket::{Api, Backend, DockerSocket};
use crate::hypervisor::{BoxFuture, BoxStream, Exit, Vm, noun};
use crate::model::{Failure, FailureKind, Stage, StageReport, VmState, VmStatus};

/// Requests to the owner.
#[derive(Debug)]
enum Request {
    /// Answered with the status' revision once the start has begun.
    Start(oneshot::Sender<u64>),
    /// Answered once nothing runs any more.
    Stop(oneshot::Sender<()>),
}

/// What the tasks beside report.
enum Event {
    Reached(Stage),
    Booted(Result<Live, Failure>),
    Ended(Exit),
    PauseOver,
    Steady,
    ContextWritten(Result<(), String>),
}

/// A handle to the owner. The VM is killed when the last one is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    requests: mpsc::Sender<Request>,
}

impl Machine {
    /// Starts the owning task, which publishes what it knows in `status`.
    pub(crate) fn spawn(plan: Plan, status: watch::Sender<VmStatus>) -> Machine {
        let (requests, incoming) = mpsc::channel(16);
        status.send_replace(initial_status(&plan));
        tokio::spawn(Owner::new(plan, status).run(incoming));
        Machine { requests }
    }

    /// Wants the VM up. Returns the revision of the status that says so.
    pub(crate) async fn start(&self) -> Result<u64, Failure> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Start(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Wants the VM down, and waits for it.
    pub(crate) async fn stop(&self) -> Result<(), Failure> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Stop(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

fn gone() -> Failure {
    Failure::new(FailureKind::System, "the task that owns the VM has ended")
}

/// What is known before anything was done.
pub(crate) fn initial_status(plan: &Plan) -> VmStatus {
    let settings = &plan.settings;
    VmStatus {
        revision: 0,
        vm: VmState::Stopped,
        since_ms: now_ms(),
        stages: Vec::new(),
        hypervisor: plan.hypervisor.kind(),
        accelerator: plan.hypervisor.accelerator(),
        owner_pid: std::process::id(),
        cpus: settings.cpus(),
        memory_mib: settings.memory_mib(),
        disk: assets::disk_status(&settings.paths.data_disk()),
        socket: settings.paths.docker_socket(),
        console: settings.paths.console(),
        agent_version: None,
        failed_boots: 0,
        restarts: 0,
        warnings: Vec::new(),
    }
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or_default()
}

/// The engine of a machine, as the socket sees it.
struct EngineApi(Arc<dyn Vm>);

impl Api for EngineApi {
    fn open(&self) -> BoxFuture<'_, io::Result<BoxStream>> {
        self.0.connect_api()
    }
}

struct Owner {
    plan: Plan,
    state: State,
    status: watch::Sender<VmStatus>,
    events: mpsc::UnboundedSender<(u64, Event)>,
    reports: mpsc::UnboundedReceiver<(u64, Event)>,
    /// Number of the boot that events must belong to.
    boot: u64,
    cancel: CancellationToken,
    began: Instant,
    /// When the stage under way began.
    stage_began: Instant,
    live: Option<Live>,
    socket: Option<DockerSocket>,
    backend: watch::Sender<Backend>,
    waiting_for_stop: Vec<oneshot::Sender<()>>,
}

impl Owner {
    fn new(plan: Plan, status: watch::Sender<VmStatus>) -> Owner {
        let (events, reports) = mpsc::unbounded_channel();
        Owner {
            plan,
            state: State::Stopped,
            status,
            events,
            reports,
            boot: 0,
            cancel: CancellationToken::new(),
            began: Instant::now(),
            stage_began: Instant::now(),
            live: None,
            socket: None,
            backend: watch::Sender::new(None),
            waiting_for_stop: Vec::new(),
        }
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some(Request::Start(reply)) => {
                        self.apply(Input::Start).await;
                        let _ = reply.send(self.status.borrow().revision);
                    }
                    Some(Request::Stop(reply)) => {
                        self.waiting_for_stop.push(reply);
                        self.apply(Input::Stop).await;
                    }
                    None => break,
                },
                Some((boot, event)) = self.reports.recv() => {
                    if boot == self.boot {
                        self.hear(event).await;
                    }
                }
            }
        }
        // Nobody is left to ask for a shutdown.
        self.cancel.cancel();
        if let Some(live) = self.live.take() {
            live.vm.kill().await;
        }
    }

    async fn hear(&mut self, event: Event) {
        match event {
            Event::Reached(stage) => {
                self.stage_done(stage);
                self.apply(Input::Reached(stage)).await;
            }
            Event::Booted(Ok(live)) => self.came_up(live).await,
            Event::Booted(Err(failure)) => {
                let counts = matches!(failure.kind, FailureKind::BootFailed | FailureKind::Crashed);
                if counts && matches!(self.state, State::Starting { .. }) {
                    tracing::warn!(%failure, details = failure.details, "a boot failed");
                    self.status.send_modify(|status| status.failed_boots += 1);
                }
                self.apply(Input::BootFailed(failure)).await;
            }
            Event::Ended(exit) => {
                let noun = noun(self.live.take().is_none_or(|live| live.vm.has_wall()));
                self.backend.send_replace(None);
                let input = match exit {
                    Exit::PoweredOff => Input::PoweredOff,
                    Exit::Crashed(how) => {
                        let message = format!("the {noun} ended by itself: {how}");
                        let failure = Failure::new(FailureKind::Crashed, message);
                        Input::Crashed(failure.with_details(self.console_tail()))
                    }
                };
                self.apply(input).await;
            }
            Event::PauseOver => {
                self.status.send_modify(|status| status.restarts += 1);
                self.apply(Input::PauseOver).await;
            }
            Event::Steady => self.apply(Input::Steady).await,
            Event::ContextWritten(Ok(())) => {}
            Event::ContextWritten(Err(warning)) => self.status.send_modify(|status| {
                status.revision += 1;
                status.warnings.push(warning);
            }),
        }
    }

    async fn came_up(&mut self, live: Live) {
        let vm = Arc::clone(&live.vm);
        let exit = vm.exited();
        self.report_later(async move {
            let mut exit = exit;
            let how = exit.wait_for(Option::is_some).await.ok().and_then(|how| how.clone());
            Event::Ended(how.unwrap_or(Exit::PoweredOff))
        });
        self.status.send_modify(|status| {
            status.agent_version.clone_from(&live.agent_version);
            status.warnings.clone_from(&live.warnings);
        });
        self.live = Some(live);
        if matches!(self.state, State::Stopping) {
            // The request to stop came while the last stage ended.
            self.shut_down();
            return;
        }
        self.backend.send_replace(Some(Arc::new(EngineApi(vm))));
        self.report_later(async {
            tokio::time::sleep(STEADY_AFTER).await;
            Event::Steady
        });
        self.stage_done(Stage::Engine);
        self.apply(Input::Reached(Stage::Engine)).await;
        self.write_context();
    }

    /// Changes the state and does what the table says.
    async fn apply(&mut self, input: Input) {
        let mut input = Some(input);
        while let Some(next) = input.take() {
            let action = match self.state.clone().next(next) {
                Ok((state, action)) => {
                    self.state = state;
                    action
                }
                Err(denied) => {
                    tracing::debug!(%denied, "dropped");
                    break;
                }
            };
            self.settle();
            match action {
                Action::Nothing => {}
                Action::Boot => input = self.begin().await.err().map(Input::BootFailed),
                Action::Cancel => self.cancel.cancel(),
                Action::ShutDown => self.shut_down(),
                Action::Pause(delay) => self.report_later(async move {
                    tokio::time::sleep(delay).await;
                    Event::PauseOver
                }),
            }
        }
    }

    /// Puts away what doesn't exist in the new state, and tells everyone of it.
    fn settle(&mut self) {
        if matches!(self.state, State::Stopped | State::Failed { .. }) {
            self.socket = None;
            self.live = None;
            for waiting in self.waiting_for_stop.drain(..) {
                let _ = waiting.send(());
            }
        }
        let vm = shown(&self.state);
        let disk = assets::disk_status(&self.plan.settings.paths.data_disk());
        let accelerator = self.plan.hypervisor.accelerator();
        self.status.send_modify(|status| {
            status.revision += 1;
            if std::mem::discriminant(&status.vm) != std::mem::discriminant(&vm) {
                status.since_ms = now_ms();
            }
            status.vm = vm;
            status.disk = disk;
            status.accelerator = accelerator;
        });
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        let first = matches!(self.state, State::Starting { attempt: 1, .. });
        if first {
            self.began = Instant::now();
        }
        self.stage_began = Instant::now();
        self.status.send_modify(|status| {
            status.revision += 1;
            status.stages.clear();
        });
        if self.socket.is_none() {
            let path = self.plan.settings.paths.docker_socket();
            self.socket = Some(DockerSocket::bind(&path, self.backend.subscribe()).await?);
        }
        self.boot += 1;
        self.cancel = CancellationToken::new();
        let (boot, events) = (self.boot, self.events.clone());
        let stages = events.clone();
        let reached = move |stage| {
            let _ = stages.send((boot, Event::Reached(stage)));
        };
        let work = boot::boot(self.plan.clone(), self.cancel.clone(), reached);
        tokio::spawn(async move {
            let _ = events.send((boot, Event::Booted(work.await)));
        });
        Ok(())
    }

    fn shut_down(&mut self) {
        self.backend.send_replace(None);
        if let Some(live) = &self.live {
            let vm = Arc::clone(&live.vm);
            // Its end is reported by whoever watches the machine.
            tokio::spawn(async move { boot::shut_down(&vm).await });
        }
    }

    fn report_later(&self, event: impl Future<Output = Event> + Send + 'static) {
        let (boot, events) = (self.boot, self.events.clone());
        tokio::spawn(async move {
            // An owner that is gone needs no report.
            let event = tokio::select! {
                event = event => event,
                () = events.closed() => return,
            };
            let _ = events.send((boot, event));
        });
    }

    fn stage_done(&mut self, stage: Stage) {
        let elapsed_ms = milliseconds(self.began.elapsed());
        let took_ms = milliseconds(self.stage_began.elapsed());
        self.stage_began = Instant::now();
        self.status.send_modify(|status| status.stages.push(StageReport { stage, took_ms, elapsed_ms }));
    }

    fn write_context(&self) {
        let settings = Arc::clone(&self.plan.settings);
        if !settings.writes_context {
            return;
        }
        let socket = settings.paths.docker_socket();
        let (boot, events) = (self.boot, self.events.clone());
        tokio::task::spawn_blocking(move || {
            let done = context::install(&settings.docker_config, &socket, settings.preferences.use_context);
            let done =
                done.map(drop).map_err(|error| format!("the Docker context could not be written: {error}"));
            let _ = events.send((boot, Event::ContextWritten(done)));
        });
    }

    fn console_tail(&self) -> String {
        let bytes = std::fs::read(self.plan.settings.paths.console()).unwrap_or_default();
        boot::last_lines(&String::from_utf8_lossy(&bytes), 20)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn shown(state: &state::State) -> VmState {
    match state {
        State::Stopped => VmState::Stopped,
        State::Starting { stage, attempt, .. } => VmState::Starting { stage: *stage, attempt: *attempt },
        State::Running { .. } => VmState::Running,
        State::Stopping => VmState::Stopping,
        State::Restarting { delay, cause, .. } => {
            VmState::Restarting { delay_ms: milliseconds(*delay), cause: cause.clone() }
        }
        State::Failed { cause } => VmState::Failed { cause: cause.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::{Hypervisor, VmSpec};
    use crate::model::HypervisorKind;
    use crate::settings::{Environment, Settings};
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    /// What one boot of the fake does.
    #[derive(Clone, Copy)]
    enum Fate {
        /// The engine answers.
        Good,
        /// The machine ends before the engine answers.
        Dies,
    }

    /// A hypervisor whose machines are a watch and an engine that answers every request with `OK`.
    struct Fake {
        fates: Mutex<VecDeque<Fate>>,
        machines: Mutex<Vec<Arc<FakeVm>>>,
    }

    struct FakeVm {
        exit: watch::Sender<Option<Exit>>,
    }

    impl Hypervisor for Fake {
        fn kind(&self) -> HypervisorKind {
            HypervisorKind::Native
        }
        fn needs_image(&self) -> bool {
            false
        }
        fn check(&self) -> Result<(), Failure> {
            let missing = "nothing works here";
            match self.fates.lock().unwrap().front() {
                Some(_) => Ok(()),
                None => Err(Failure::new(FailureKind::MissingDependency, missing)),
            }
        }
        fn start(&self, _spec: VmSpec) -> BoxFuture<'_, Result<Arc<dyn Vm>, Failure>> {
            let exit = match self.fates.lock().unwrap().pop_front() {
                Some(Fate::Good) => None,
                _ => Some(Exit::Crashed("bad luck".to_owned())),
            };
            let vm = Arc::new(FakeVm { exit: watch::Sender::new(exit) });
            self.machines.lock().unwrap().push(Arc::clone(&vm));
            Box::pin(async { Ok(vm as Arc<dyn Vm>) })
        }
    }

    impl Vm for FakeVm {
        fn connect_api(&self) -> BoxFuture<'_, io::Result<BoxStream>> {
            let alive = self.exit.borrow().is_none();
            Box::pin(async move {
                if !alive {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                let (host, mut guest) = duplex(1024);
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    while guest.read(&mut request).await.is_ok_and(|count| count > 0) {
                        let _ = guest.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await;
                    }
                });
                Ok(Box::new(host) as BoxStream)
            })
        }
        fn has_wall(&self) -> bool {
            false
        }
        fn power_button(&self) -> BoxFuture<'_, io::Result<()>> {
            self.exit.send_replace(Some(Exit::PoweredOff));
            Box::pin(async { Ok(()) })
        }
        fn kill(&self) -> BoxFuture<'_, ()> {
            self.exit.send_replace(Some(Exit::PoweredOff));
            Box::pin(async {})
        }
        fn exited(&self) -> watch::Receiver<Option<Exit>> {
            self.exit.subscribe()
        }
    }

    struct Bench {
        machine: Machine,
        status: watch::Receiver<VmStatus>,
        hypervisor: Arc<Fake>,
        _home: tempfile::TempDir,
    }

    fn bench(fates: impl IntoIterator<Item = Fate>) -> Bench {
        let home = tempfile::tempdir().unwrap();
        let environment = Environment { sampan_home: Some(home.path().to_owned()), ..Environment::default() };
        let settings = Arc::new(Settings::load(&environment).unwrap());
        let fates = Mutex::new(fates.into_iter().collect());
        let hypervisor = Arc::new(Fake { fates, machines: Mutex::default() });
        let plan = Plan { settings, hypervisor: Arc::clone(&hypervisor) as Arc<dyn Hypervisor> };
        let sender = watch::Sender::new(initial_status(&plan));
        let status = sender.subscribe();
        Bench { machine: Machine::spawn(plan, sender), status, hypervisor, _home: home }
    }

    impl Bench {
        async fn until(&mut self, wanted: impl Fn(&VmState) -> bool) -> VmStatus {
            let found = self.status.wait_for(|status| wanted(&status.vm));
            tokio::time::timeout(Duration::from_secs(30), found).await.expect("in time").unwrap().clone()
        }

        fn last_vm(&self) -> Arc<FakeVm> {
            Arc::clone(self.hypervisor.machines.lock().unwrap().last().unwrap())
        }
    }

    #[tokio::test]
    async fn a_start_passes_all_stages_and_a_stop_leaves_nothing() {
        let mut bench = bench([Fate::Good]);
        bench.machine.start().await.unwrap();
        let status = bench.until(|vm| *vm == VmState::Running).await;
        let stages: Vec<Stage> = status.stages.iter().map(|report| report.stage).collect();
        assert_eq!(stages, Stage::ALL);
        assert!(status.socket.exists());
        bench.machine.stop().await.unwrap();
        assert_eq!(bench.status.borrow().vm, VmState::Stopped);
        assert!(!status.socket.exists());
        assert_eq!(*bench.last_vm().exit.borrow(), Some(Exit::PoweredOff));
    }

    #[tokio::test]
    async fn a_failed_boot_is_tried_once_more_and_counted() {
        let mut bench = bench([Fate::Dies, Fate::Good]);
        bench.machine.start().await.unwrap();
        let status = bench.until(|vm| *vm == VmState::Running).await;
        assert_eq!((status.failed_boots, bench.hypervisor.machines.lock().unwrap().len()), (1, 2));
    }

    #[tokio::test]
    async fn two_failed_boots_are_a_failure_with_its_cause() {
        let mut bench = bench([Fate::Dies, Fate::Dies, Fate::Good]);
        bench.machine.start().await.unwrap();
        let status = bench.until(|vm| matches!(vm, VmState::Failed { .. })).await;
        let VmState::Failed { cause } = status.vm else { unreachable!() };
        assert_eq!(cause.kind, FailureKind::BootFailed);
        assert!(cause.message.contains("ended while it started: bad luck"), "{cause}");
        assert!(!status.socket.exists());
    }

    #[tokio::test]
    async fn what_is_missing_is_not_tried_again() {
        let mut bench = bench([]);
        bench.machine.start().await.unwrap();
        let status = bench.until(|vm| matches!(vm, VmState::Failed { .. })).await;
        assert_eq!((status.failed_boots, bench.hypervisor.machines.lock().unwrap().len()), (0, 0));
    }

    #[tokio::test]
    async fn a_vm_that_ends_by_itself_comes_back() {
        let mut bench = bench([Fate::Good, Fate::Good]);
        bench.machine.start().await.unwrap();
        bench.until(|vm| *vm == VmState::Running).await;
        bench.last_vm().exit.send_replace(Some(Exit::Crashed("power loss".to_owned())));
        let status = bench.until(|vm| matches!(vm, VmState::Restarting { .. })).await;
        // Clients wait at the socket meanwhile.
        assert!(status.socket.exists());
        let status = bench.until(|vm| *vm == VmState::Running).await;
        assert_eq!(status.restarts, 1);
    }

    #[tokio::test]
    async fn a_guest_that_powers_off_is_stopped_and_stays_so() {
        let mut bench = bench([Fate::Good]);
        bench.machine.start().await.unwrap();
        bench.until(|vm| *vm == VmState::Running).await;
        bench.last_vm().exit.send_replace(Some(Exit::PoweredOff));
        let status = bench.until(|vm| *vm == VmState::Stopped).await;
        assert_eq!(status.restarts, 0);
    }
}
