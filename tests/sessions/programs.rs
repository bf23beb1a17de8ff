//! The foreign programs that the sessions are made of, and where they come from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{Output, settings};

/// docker compose, which `.make/setup` takes from Debian's packages.
///
/// # Errors
/// When it hasn't been fetched.
pub(crate) fn compose() -> Result<PathBuf, String> {
    settings::program("docker-compose")
}

/// A Python that has docker-py and Testcontainers, in a virtual environment of the tests' own.
///
/// # Errors
/// When this machine has no Python that can make one.
///
/// # Panics
/// When the packages cannot be installed.
pub(crate) fn python() -> Result<PathBuf, String> {
    settings::program("python3")?;
    let folder = settings::target().join("fixtures/python");
    fs::create_dir_all(&folder).expect("a folder for the environment");
    // Two tests may want it at once: the second waits here for the first.
    let lock = fs::File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("the lock is granted");
    let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/requirements.txt");
    let installed = folder.join("requirements.txt");
    let program = folder.join("bin/python");
    if fs::read(&wanted).ok() != fs::read(&installed).ok() {
        let _ = Output::of(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder)).success();
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        let _ = Output::of(Command::new(&program).args(install).arg(&wanted)).success();
        fs::copy(&wanted, &installed).expect("what is installed is noted");
    }
    Ok(program)
}
