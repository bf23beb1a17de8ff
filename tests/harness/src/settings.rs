//! Every environment variable that the tests read.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    // tests/harness is two levels down.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the harness is in tests/harness")
        .to_owned()
}

/// Where Cargo builds to: `CARGO_TARGET_DIR`, or `target` in the repository.
#[must_use]
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// `SAMPAN_REQUIRE_ALL`: a missing part of the machine is a failure, not a skipped test.
#[must_use]
pub fn require_all() -> bool {
    env::var_os("SAMPAN_REQUIRE_ALL").is_some()
}

/// The built engine: `SAMPAN_GUEST_AGENT`, or what `make guest-agent` makes.
///
/// # Errors
/// When it hasn't been built.
pub fn guest_agent() -> Result<PathBuf, String> {
    let built = target().join(concat!("x86_64-unknown-linux-gnu", "/release/guest-agent"));
    existing(env::var_os("SAMPAN_GUEST_AGENT").map_or(built, PathBuf::from), "make guest-agent")
}

/// The `sampan` command: `SAMPAN_COMMAND`, or what `make sampan` makes.
///
/// # Errors
/// When it hasn't been built.
pub fn sampan() -> Result<PathBuf, String> {
    let built = target().join("release/sampan");
    existing(env::var_os("SAMPAN_COMMAND").map_or(built, PathBuf::from), "make sampan")
}

/// The directory of the VM's kernel and initramfs: `SAMPAN_IMAGE`, or what `make vm-image` makes.
///
/// # Errors
/// When it hasn't been built.
pub fn vm_image() -> Result<PathBuf, String> {
    match env::var_os("SAMPAN_IMAGE") {
        Some(named) => existing(PathBuf::from(named), "make vm-image"),
        None => vm_image_of("amd64"),
    }
}

/// What `make vm-image` makes for an architecture, in Docker's words.
///
/// # Errors
/// When it hasn't been built.
pub fn vm_image_of(architecture: &str) -> Result<PathBuf, String> {
    existing(root().join("vm-image/out").join(architecture), &format!("make vm-image ARCH={architecture}"))
}

/// A program on the search path.
///
/// # Errors
/// When it isn't there.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([root().join("target/tools/bin")])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("`{name}` is not installed; `make test` installs it"))
}

/// Whether the tests run as root, which namespaces and mounts need.
///
/// # Errors
/// When they don't.
pub fn root_user() -> Result<(), String> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err("this test needs root".into()) }
}

fn existing(path: PathBuf, maker: &str) -> Result<PathBuf, String> {
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("`{}` is not there; `{maker}` makes it", path.display()))
    }
}
