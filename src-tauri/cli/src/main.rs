//! `sampan`: the VM from a terminal, without a window.

mod daemon;
mod hello;
mod show;
mod start;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use host::hypervisor::Hypervisor;
use host::model::Failure;
use host::settings::{Environment, Settings};

/// Linux containers in a VM of their own, for every client of Docker.
#[derive(Parser)]
#[command(name = "sampan", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts the VM and waits until Docker clients can connect.
    Start(start::Options),
    /// Stops the VM.
    Stop,
    /// Says how the VM is.
    Status {
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Prints the VM's console.
    Logs {
        /// Go on with what is written from now on.
        #[arg(short, long)]
        follow: bool,
        /// Only the last lines.
        #[arg(short = 'n', long)]
        tail: Option<usize>,
    },
    /// Owns the VM in the background: what `start` leaves behind.
    #[command(hide = true)]
    Daemon,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sampan: {error:#}");
            if let Some(details) =
                error.downcast_ref::<Failure>().and_then(|failure| failure.details.as_deref())
            {
                for line in details.lines() {
                    eprintln!("  | {line}");
                }
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(&Environment::read())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Start(options) => start::run(settings, options).await,
            Command::Stop => stop(settings).await,
            Command::Status { json } => show::status(settings, json).await,
            Command::Logs { follow, tail } => show::logs(&settings, follow, tail).await,
            Command::Daemon => daemon::run(settings).await,
        }
    })
}

async fn stop(settings: Settings) -> anyhow::Result<ExitCode> {
    let began = std::time::Instant::now();
    if host::stop_owner(&settings).await? {
        println!("stopped in {}", show::seconds(began.elapsed()));
    } else {
        println!("the VM is not running");
    }
    Ok(ExitCode::SUCCESS)
}

/// The hypervisor that the settings ask for.
fn hypervisor(settings: &Settings) -> Result<Arc<dyn Hypervisor>, Failure> {
    #[cfg(target_os = "macos")]
    if settings.hypervisor() == host::model::HypervisorKind::Apple {
        return Ok(Arc::new(vz::Apple::new()));
    }
    host::hypervisor::from_settings(settings)
}
