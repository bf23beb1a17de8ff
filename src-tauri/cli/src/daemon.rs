//! The background process: owns the VM from a start to its stop, and ends with it.

use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use host::Sampan;
use host::model::{Failure, FailureKind, VmState};
use host::settings::Settings;
use tokio::signal::unix::{SignalKind, signal};

/// Whoever started this process asks for the VM within this time, or never.
const ASKED_WITHIN: Duration = Duration::from_secs(30);

/// The owner before this one may still be on its way out.
const OWNED_WITHIN: Duration = Duration::from_secs(2);

/// Time for others to hear of a failure before its teller is gone.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long a background process may take to open its control socket.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Starts the background process and waits until it can be asked.
pub(crate) async fn spawn(settings: &Settings) -> anyhow::Result<()> {
    let log_path = settings.paths.daemon_log();
    std::fs::create_dir_all(settings.paths.logs()).map_err(|error| {
        Failure::system(format!("cannot make `{}`", settings.paths.logs().display()), error)
    })?;
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(|error| Failure::system(format!("cannot write `{}`", log_path.display()), error))?;
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .arg("daemon")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .current_dir("/")
        .spawn()
        .context("cannot start the background process")?;
    let ready = async {
        loop {
            if host::owner_status(settings).await?.is_some() {
                return Ok(());
            }
            if child.try_wait()?.is_some() {
                anyhow::bail!(Failure::new(FailureKind::System, last_words(&log_path)));
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let late = "the background process does not answer";
    tokio::time::timeout(READY_WITHIN, ready).await.context(late)?
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    last.map_or_else(
        || "the background process ended".to_owned(),
        |line| line.trim_start_matches("sampan: ").to_owned(),
    )
}

/// The background process itself.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    // A session of its own: closing the terminal must not stop the VM. It fails only for who has one already.
    let _ = rustix::process::setsid();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    own(settings, false).await
}

/// Owns the VM until it is stopped. With `at_once` it is started here; else someone asks for it.
pub(crate) async fn own(settings: Settings, at_once: bool) -> anyhow::Result<ExitCode> {
    let hypervisor = crate::hypervisor(&settings)?;
    let sampan = Sampan::open(settings, hypervisor).await?;
    let owned = async {
        while !sampan.is_owner() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(OWNED_WITHIN, owned).await.is_err() {
        anyhow::bail!(Failure::new(FailureKind::Busy, "another process of Sampan owns the VM already"));
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let boot = if at_once { Some(sampan.start().await?) } else { None };
    let code = tokio::select! {
        code = ended(&sampan, boot) => code,
        _ = terminate.recv() => ExitCode::SUCCESS,
        _ = interrupt.recv() => ExitCode::SUCCESS,
    };
    sampan.close().await?;
    Ok(code)
}

/// Waits until a VM that was started runs no more.
async fn ended(sampan: &Sampan, boot: Option<host::Boot>) -> ExitCode {
    let mut status = sampan.watch();
    match boot {
        Some(boot) => crate::start::print_progress(boot).await,
        None => {
            let asked = status.wait_for(|status| status.vm != VmState::Stopped);
            if tokio::time::timeout(ASKED_WITHIN, asked).await.is_err() {
                return ExitCode::FAILURE;
            }
        }
    }
    let over = status.wait_for(|status| matches!(status.vm, VmState::Stopped | VmState::Failed { .. })).await;
    let failure = match over.as_deref() {
        Ok(host::model::VmStatus { vm: VmState::Failed { cause }, .. }) => Some(cause.clone()),
        _ => None,
    };
    drop(over);
    let Some(failure) = failure else { return ExitCode::SUCCESS };
    eprintln!("sampan: {failure}");
    tokio::time::sleep(FAREWELL).await;
    ExitCode::FAILURE
}
