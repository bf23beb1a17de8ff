//! `sampan start`: brings the VM up, in a process that stays behind, and shows how.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use host::model::{Failure, FailureKind, Stage};
use host::settings::Settings;
use host::{Boot, Sampan};

use crate::{daemon, hello, show};

/// How to start.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Stay in this terminal until the VM is stopped, instead of leaving a background process behind.
    #[arg(long, conflicts_with = "hello")]
    foreground: bool,
    /// Then load this image archive, run a container of it, and say what to do next.
    #[arg(long, value_name = "ARCHIVE")]
    hello: Option<PathBuf>,
}

pub(crate) async fn run(settings: Settings, options: Options) -> anyhow::Result<ExitCode> {
    if options.foreground {
        return daemon::own(settings, true).await;
    }
    // What is missing is said before anything is started.
    let hypervisor = crate::hypervisor(&settings)?;
    hypervisor.check()?;
    if host::owner_status(&settings).await?.is_none() {
        daemon::spawn(&settings).await?;
    }
    let sampan = Sampan::open(settings, hypervisor).await?;
    if sampan.is_owner() {
        let log = sampan.settings().paths.daemon_log();
        let message = format!("the background process ended at once: see `{}`", log.display());
        anyhow::bail!(Failure::new(FailureKind::System, message));
    }
    let boot = sampan.start().await?;
    let mut progress = boot.clone();
    while let Some(report) = progress.next().await {
        print_stage(report.stage, Duration::from_millis(report.took_ms));
    }
    let status = boot.finish().await?;
    for warning in &status.warnings {
        eprintln!("warning: {warning}");
    }
    let total = status.stages.last().map_or(0, |stage| stage.elapsed_ms);
    println!(
        "running after {}: unix://{}",
        show::seconds(Duration::from_millis(total)),
        status.socket.display()
    );
    if let Some(archive) = options.hello {
        hello::run(&sampan, &archive).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the stages of a start as they are done.
pub(crate) async fn print_progress(mut boot: Boot) {
    while let Some(report) = boot.next().await {
        print_stage(report.stage, Duration::from_millis(report.took_ms));
    }
}

fn print_stage(stage: Stage, took: Duration) {
    println!("  {:<28} {:>8}", show::stage(stage), show::seconds(took));
}
