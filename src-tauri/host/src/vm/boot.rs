//! One boot, from files to an engine that answers; and one shutdown.
//!
//! Knows no state: the owning task ([`super::machine`]) decides what a success or failure means.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use protocol::{DiskState, FramedStream, GuestReply, GuestStatus, HostRequest, Phase};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::assets::{self, Image};
use crate::fabric::Fabric;
use crate::hypervisor::{Exit, Hypervisor, Vm, VmSpec, noun};
use crate::model::{Failure, FailureKind, Stage};
use crate::settings::Settings;

/// A guest that gives no sign of life for this long, neither on its console nor as an answer, did not boot.
const SIGN_OF_LIFE_WITHIN: Duration = Duration::from_secs(20);

/// The same for a guest in software emulation, which shares this machine's processors with whatever else is busy.
const SIGN_OF_LIFE_EMULATED: Duration = Duration::from_secs(60);

/// An engine that is silent for this long after the agent's first word did not start: it may have to recover first.
const ENGINE_WITHIN: Duration = Duration::from_secs(60);

/// Between two tries to reach the guest.
const PAUSE: Duration = Duration::from_millis(15);

/// A try that is neither taken nor refused was lost on the way.
const TRY_WITHIN: Duration = Duration::from_secs(1);

/// What containers get to end in, on shutdown.
const GRACE: Duration = Duration::from_millis(1000);

/// A machine that is still there so long after the request is killed.
const POWER_OFF_WITHIN: Duration = Duration::from_secs(5);

/// A console log larger than this is set aside at the next start.
const CONSOLE_KEEP: u64 = 4 << 20;

/// What a boot is made from.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) settings: Arc<Settings>,
    pub(crate) hypervisor: Arc<dyn Hypervisor>,
}

/// A machine whose engine answers.
pub(crate) struct Live {
    pub(crate) vm: Arc<dyn Vm>,
    pub(crate) agent_version: Option<String>,
    pub(crate) warnings: Vec<String>,
    _fabric: Fabric,
}

/// Boots. `reached` hears of each stage but the last, whose news is the result. Leaves no machine behind on failure.
pub(crate) async fn boot(
    plan: Plan,
    cancel: CancellationToken,
    reached: impl Fn(Stage) + Send,
) -> Result<Live, Failure> {
    plan.hypervisor.check()?;
    let blocking = plan.clone();
    let prepared = tokio::task::spawn_blocking(move || prepare(&blocking)).await;
    let (spec, warning) = prepared.map_err(|error| Failure::system("preparing the VM failed", error))??;
    reached(Stage::Prepare);
    let mut console = Console::new(spec.console.clone());
    let vm = plan.hypervisor.start(spec).await?;
    // Known only now: the start has found out what this machine can do.
    if plan.hypervisor.accelerator().is_some_and(|accelerator| accelerator == "tcg") {
        console.silence = SIGN_OF_LIFE_EMULATED;
    }
    let result = tokio::select! {
        result = come_up(&vm, &console, &reached) => result,
        () = cancel.cancelled() => Err(Failure::new(FailureKind::BootFailed, "the start was broken off")),
    };
    match result {
        Ok((fabric, agent_version)) => {
            Ok(Live { vm, agent_version, warnings: warning.into_iter().collect(), _fabric: fabric })
        }
        Err(failure) => {
            vm.kill().await;
            Err(failure)
        }
    }
}

/// Checks and makes files.
fn prepare(plan: &Plan) -> Result<(VmSpec, Option<String>), Failure> {
    let settings = &plan.settings;
    let paths = &settings.paths;
    for dir in [paths.run(), paths.machine(), paths.data(), paths.logs()] {
        std::fs::create_dir_all(&dir)
            .map_err(|error| Failure::system(format!("cannot make `{}`", dir.display()), error))?;
    }
    let console = paths.console();
    if std::fs::metadata(&console).is_ok_and(|meta| meta.len() > CONSOLE_KEEP) {
        let _ = std::fs::rename(&console, console.with_extension("log.old"));
    }
    let mut spec = VmSpec {
        cpus: settings.cpus(),
        memory_mib: settings.memory_mib(),
        kernel: PathBuf::new(),
        initramfs: PathBuf::new(),
        command_line: String::new(),
        data_disk: paths.data_disk(),
        console,
        run_dir: paths.machine(),
    };
    if !plan.hypervisor.needs_image() {
        return Ok((spec, None));
    }
    let image = Image::open(&settings.image_dir(), &paths.run().join("image-seal.json"))?;
    spec.command_line = image.architecture.command_line(plan.hypervisor.console_device());
    spec.kernel = image.kernel;
    spec.initramfs = image.initramfs;
    let size = u64::from(settings.preferences.disk_gib) << 30;
    let warning = assets::prepare_disk(&spec.data_disk, size)?;
    Ok((spec, warning))
}

async fn come_up(
    vm: &Arc<dyn Vm>,
    console: &Console,
    reached: &(impl Fn(Stage) + Send),
) -> Result<(Fabric, Option<String>), Failure> {
    let opened = Fabric::open(vm).await;
    let fabric = opened.map_err(|error| Failure::system("cannot open the VM's connections", error))?;
    let mut exited = vm.exited();
    let steps = async {
        let agent = if vm.has_wall() {
            Some(meet_agent(vm, console, reached).await?)
        } else {
            reached(Stage::Boot);
            None
        };
        reached(Stage::Agent);
        let silent = || boot_failed("the engine did not answer within a minute of its start", console);
        timeout(ENGINE_WITHIN, meet_engine(vm)).await.map_err(|_| silent())??;
        Ok(agent)
    };
    tokio::select! {
        result = steps => result.map(|agent| (fabric, agent)),
        exit = exited.wait_for(Option::is_some) => {
            let how = match exit.ok().and_then(|exit| exit.clone()) {
                Some(Exit::Crashed(how)) => how,
                _ => "it powered off".to_owned(),
            };
            let noun = noun(vm.has_wall());
            Err(boot_failed(&format!("the {noun} ended while it started: {how}"), console))
        }
    }
}

fn boot_failed(message: &str, console: &Console) -> Failure {
    let failure = Failure::new(FailureKind::BootFailed, message);
    match console.since_start(20) {
        text if text.is_empty() => failure,
        text => failure.with_details(text),
    }
}

/// Says hello, once the guest can be reached, until the agent answers.
async fn meet_agent(
    vm: &Arc<dyn Vm>,
    console: &Console,
    reached: &impl Fn(Stage),
) -> Result<String, Failure> {
    let hello = || HostRequest::Hello { version: protocol::VERSION, unix_nanos: unix_nanos() };
    let mut signs = SignsOfLife { console, heard: console.start, last: Instant::now() };
    let mut reachable = vm.reachable();
    let mut may_call = false;
    loop {
        if signs.look()? {
            reached(Stage::Boot);
        }
        if !may_call {
            may_call = timeout(PAUSE, &mut reachable).await.is_ok();
            continue;
        }
        match ask(vm, &hello()).await {
            Ok(GuestReply::Hello { version: protocol::VERSION, agent, .. }) => {
                if signs.heard == console.start {
                    reached(Stage::Boot);
                }
                return Ok(agent);
            }
            Ok(GuestReply::Hello { version, agent, .. }) => return Err(another_version(version, &agent)),
            Ok(other) => tracing::warn!(?other, "the guest agent answered something else"),
            Err(error) => tracing::debug!(%error, "the guest agent does not answer yet"),
        }
        sleep(PAUSE).await;
    }
}

/// The growing of the console while the guest starts.
struct SignsOfLife<'a> {
    console: &'a Console,
    heard: u64,
    last: Instant,
}

impl SignsOfLife<'_> {
    /// Whether this was the guest's first word; an error when it has been silent for too long.
    fn look(&mut self) -> Result<bool, Failure> {
        let length = self.console.length();
        if length > self.heard {
            self.last = Instant::now();
        } else if self.last.elapsed() > self.console.silence {
            let seconds = self.console.silence.as_secs();
            let message = format!("the VM gave no sign of life for {seconds} seconds while it started");
            return Err(boot_failed(&message, self.console));
        }
        let first = self.heard == self.console.start && length > self.heard;
        self.heard = length;
        Ok(first)
    }
}

fn another_version(version: u32, agent: &str) -> Failure {
    let message = format!(
        "the VM image holds agent {agent}, which speaks version {version} and not {}: build the image again",
        protocol::VERSION
    );
    Failure::new(FailureKind::BadImage, message)
}

/// Asks the engine for a sign of life until it gives one, or the guest says that it won't come up.
async fn meet_engine(vm: &Arc<dyn Vm>) -> Result<(), Failure> {
    const ASK_GUEST_EVERY: u32 = 20;
    for tries in 1u32.. {
        if timeout(TRY_WITHIN * 5, ping(vm)).await.is_ok_and(|answer| answer.is_ok()) {
            return Ok(());
        }
        if vm.has_wall()
            && tries.is_multiple_of(ASK_GUEST_EVERY)
            && let Ok(GuestReply::Status(status)) = ask(vm, &HostRequest::Status).await
            && status.phase == Phase::Refused
        {
            return Err(refused(&status));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

fn refused(status: &GuestStatus) -> Failure {
    let message = match &status.disk.state {
        DiskState::Damaged { message } => format!("the data disk is damaged and was not touched: {message}"),
        DiskState::Foreign { message } => format!("the data disk is not ours and was not touched: {message}"),
        DiskState::Missing => "the guest did not find its data disk".to_owned(),
        DiskState::Unknown | DiskState::Ready { .. } => "the guest refuses to come up".to_owned(),
    };
    Failure::new(FailureKind::System, message)
}

async fn ping(vm: &Arc<dyn Vm>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = vm.connect_api().await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The connection is driven beside: its own end may come in the same breath as the answer's.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = http::Request::get("/_ping").header("Host", "docker").body(Empty::<bytes::Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    if !answer.status().is_success() {
        return Err(format!("it answered {}", answer.status()).into());
    }
    answer.into_body().collect().await?;
    Ok(())
}

/// One request on the control port.
pub(crate) async fn ask(vm: &Arc<dyn Vm>, request: &HostRequest) -> std::io::Result<GuestReply> {
    let exchange = async {
        let mut stream = FramedStream::new(vm.connect(protocol::ports::CONTROL).await?);
        stream.send(request).await?;
        stream.recv().await
    };
    timeout(TRY_WITHIN, exchange).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

fn unix_nanos() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or_default()
}

/// Asks the guest to power off; presses the button when it can't be asked; kills it when it doesn't.
pub(crate) async fn shut_down(vm: &Arc<dyn Vm>) {
    let grace_ms = u64::try_from(GRACE.as_millis()).unwrap_or_default();
    let asked = vm.has_wall() && ask(vm, &HostRequest::Shutdown { grace_ms }).await.is_ok();
    if !asked && let Err(error) = vm.power_button().await {
        tracing::debug!(%error, "the power button does not work");
    }
    let mut exited = vm.exited();
    if timeout(POWER_OFF_WITHIN, exited.wait_for(Option::is_some)).await.is_err() {
        tracing::warn!("the VM did not power off in time and is killed");
        vm.kill().await;
    }
}

/// The console log, from where it stood at power-on.
struct Console {
    path: PathBuf,
    start: u64,
    /// How long the guest may say nothing while it starts.
    silence: Duration,
}

impl Console {
    fn new(path: PathBuf) -> Console {
        let start = length(&path);
        Console { path, start, silence: SIGN_OF_LIFE_WITHIN }
    }

    fn length(&self) -> u64 {
        length(&self.path)
    }

    fn since_start(&self, lines: usize) -> String {
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        let start = usize::try_from(self.start).unwrap_or_default().min(bytes.len());
        last_lines(&String::from_utf8_lossy(&bytes[start..]), lines)
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

/// The last lines of a text, without the carriage returns of a serial line.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches('\r')).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
