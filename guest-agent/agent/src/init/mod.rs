//! The first process of the VM: brings up just enough for the engine, then supervises it, then powers off.
//!
//! ```text
//! kernel ─▶ root, mounts ─┬▶ disk driver ─▶ data disk ─────┬▶ supervisor ─▶ unmount ─▶ power off
//!                         └▶ other `boot` modules, settings ┘  │ refused: supervises the control port alone
//! ```
//!
//! Everything that is not needed before the API answers is left to the engine's process, whose first act after
//! that is to load the other modules. There is no shell, no udev and no service manager.

pub(crate) mod console;
pub(crate) mod disk;
mod ext4;
pub(crate) mod modules;
mod mounts;
pub(crate) mod power;
pub(crate) mod record;
mod seed;
mod settings;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use protocol::DiskState;
use supervisor::{EngineCommand, ExitReason};

use self::modules::{Group, Modules};
use self::record::Record;

/// Where the data disk is mounted.
pub(crate) const DATA: &str = "/data";
/// What lives as long as the VM is up.
pub(crate) const RUN: &str = "/run/sampan";

/// Longer than any grace that the engine gives its containers before it ends by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Whether this is the first process of a machine of ours, and not of some container.
pub(crate) fn is_first_process() -> bool {
    rustix::process::getpid() == rustix::process::Pid::INIT && Path::new(modules::INDEX).exists()
}

/// The whole life of the VM. Returns only if powering off fails.
///
/// The kernel hands on what its command line has behind `--`: options for the engine.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let mut record = Record::default();
    if let Err(error) = bring_up(&mut record) {
        tracing::error!("the VM cannot come up: {error:#}");
        power::off();
        return ExitCode::FAILURE;
    }
    supervise(&record, arguments);
    power::off();
    ExitCode::FAILURE
}

fn bring_up(record: &mut Record) -> anyhow::Result<()> {
    mounts::own_root()?;
    mounts::basic()?;
    console::start_logging();
    record.reached("init");
    let modules = Modules::read()?;
    // The disk's way is the longest and mostly waits for the host, so it has a thread of its own until both are done.
    let (disk, rest) = std::thread::scope(|scope| {
        let disk = scope.spawn(|| {
            modules.load(disk::DRIVER);
            disk::prepare(Path::new(DATA))
        });
        let rest = bring_up_rest(&modules, record);
        (disk.join(), rest)
    });
    rest?;
    record.disk = disk.map_err(|_| anyhow::anyhow!("the data disk's thread ended early"))?;
    match &record.disk {
        DiskState::Ready { formatted: false } => record.reached("disk"),
        DiskState::Ready { formatted: true } => record.reached("disk (formatted)"),
        DiskState::Unknown => {}
        DiskState::Missing => {
            tracing::error!("no data disk is attached; the engine is not started");
        }
        DiskState::Foreign { message } | DiskState::Damaged { message } => {
            tracing::error!("the data disk is refused and was not touched: {message}");
        }
    }
    record.save()?;
    Ok(())
}

/// All but the disk.
fn bring_up_rest(modules: &Modules, record: &mut Record) -> anyhow::Result<()> {
    modules.load_group(Group::Boot);
    record.reached("modules");
    mounts::rest()?;
    settings::apply()
}

/// Supervises the engine, or what stands in for it when it must not run.
fn supervise(record: &Record, options: Vec<OsString>) {
    let usable = matches!(record.disk, DiskState::Ready { .. });
    let mut arguments: Vec<OsString> = vec!["engine".into(), "--vm".into()];
    arguments.extend(options.into_iter().filter(|option| option.to_string_lossy().starts_with("--")));
    if !usable {
        arguments.push("--refused".into());
    }
    loop {
        let engine =
            EngineCommand { program: "/init".into(), args: arguments.clone(), stop_timeout: STOP_TIMEOUT };
        match supervisor::run(engine, ()) {
            Ok(ExitReason::Stopped(_) | ExitReason::Finished) => return,
            Ok(ExitReason::EngineFailed(ending))
                if arguments.iter().all(|argument| argument != "--refused") =>
            {
                tracing::error!(?ending, "the engine cannot come up; only the control port goes on");
                arguments.push("--refused".into());
            }
            Ok(ExitReason::EngineFailed(ending)) => {
                tracing::error!(?ending, "the control port cannot come up either; powering off");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "the supervisor failed; powering off");
                return;
            }
        }
    }
}
