//! What is known of running execs beyond the engine's life: a file for each, below the directory that goes with
//! the machine's uptime, as they do.

use std::path::PathBuf;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::{Engine, Error, Exec, ExecConfig, Result};

/// The file's content; its name is the exec's id.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept<C = String, E = ExecConfig> {
    pub(super) container: C,
    pub(super) config: E,
}

fn directory(engine: &Engine) -> PathBuf {
    engine.config().exec_root.join("execs")
}

pub(super) fn write(engine: &Engine, exec: &Exec) -> Result<()> {
    let (directory, kept) = (directory(engine), Kept { container: &exec.container.id, config: &exec.config });
    let text = serde_json::to_vec(&kept).map_err(Error::system)?;
    let path = directory.join(&exec.id);
    let written = match fs::write(&path, &text) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(&directory).and_then(|()| fs::write(&path, &text))
        }
        written => written,
    };
    written.map_err(|error| Error::io(format_args!("cannot write `{}`", path.display()), &error))
}

pub(super) fn remove(engine: &Engine, id: &str) {
    // It may be none of those that are kept.
    let _ = fs::remove_file(directory(engine).join(id));
}

pub(super) fn read(engine: &Engine) -> Vec<(String, Kept)> {
    let entries = fs::read_dir(directory(engine)).into_iter().flatten().filter_map(io::Result::ok);
    entries
        .filter_map(|entry| {
            let id = entry.file_name().into_string().ok()?;
            // A file that was cut short belongs to a process that never began.
            let kept = serde_json::from_slice(&fs::read(entry.path()).ok()?);
            if kept.is_err() {
                remove(engine, &id);
            }
            Some((id, kept.ok()?))
        })
        .collect()
}
