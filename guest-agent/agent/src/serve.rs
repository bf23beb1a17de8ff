//! `serve`: the engine on a machine of its own right, in the foreground, under the supervisor.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use supervisor::{EngineCommand, ExitReason};

use crate::options::Options;

/// Beyond the time that containers have, the engine gets this long to end.
const ENDING: Duration = Duration::from_secs(10);

/// Runs until told to stop.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(said) => {
            eprintln!("{said:#}");
            let asked_for_help = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
            return if asked_for_help { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    match run(&options, arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("guest-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    crate::compose::log_to_stderr(options.level()?);
    for directory in [&options.data_root, &options.exec_root] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make `{}`", directory.display()))?;
    }
    let _lock = lock(&options.data_root)?;
    if let Some(path) = &options.pidfile {
        fs::write(path, std::process::id().to_string())
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    let mut engine = vec![OsString::from("engine")];
    engine.extend(arguments.iter().cloned());
    let command = EngineCommand {
        program: std::env::current_exe()?,
        args: engine,
        stop_timeout: Duration::from_secs(options.shutdown_timeout) + ENDING,
    };
    let reason = supervisor::run(command, ())?;
    if let Some(path) = &options.pidfile {
        let _ = fs::remove_file(path);
    }
    Ok(match reason {
        ExitReason::Stopped(_) | ExitReason::Finished => ExitCode::SUCCESS,
        // The engine has said why.
        ExitReason::EngineFailed(_) => ExitCode::FAILURE,
    })
}

/// Takes the data root for this engine alone. The lock is the kernel's, so it ends with the process.
fn lock(data_root: &Path) -> anyhow::Result<File> {
    let path = data_root.join("engine.lock");
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            bail!(
                "the data root `{}` is in use by another engine (process {}); give this one its own --data-root",
                data_root.display(),
                holder.trim()
            );
        }
        Err(error) => return Err(error).with_context(|| format!("cannot lock `{}`", path.display())),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_root_has_one_engine_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let held = lock(root.path()).unwrap();
        let error = lock(root.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        assert!(lock(root.path()).is_ok());
    }
}
