//! The images that tests run, made here from Debian's packages: no blobs in git.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use hello_image::{Entry, Image};
use serde_json::json;

use crate::{Output, settings};

/// Busybox's single static program, from Debian's `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

static BUSYBOX_LAYER: LazyLock<Vec<u8>> =
    LazyLock::new(|| busybox_layer().expect("busybox fits into a layer"));

/// What [`busybox`] needs of the machine.
///
/// # Errors
/// When Debian's busybox-static isn't installed.
pub fn busybox_available() -> Result<(), String> {
    if Path::new(BUSYBOX).exists() { Ok(()) } else { Err("`busybox-static` is not installed".into()) }
}

/// An image with busybox, its applets, a user and a group: what most tests run.
#[must_use]
pub fn busybox_image() -> Image {
    Image::new()
        .config("Cmd", json!(["/bin/sh"]))
        .config("Env", json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]))
        .raw_layer(BUSYBOX_LAYER.clone())
}

/// The archive of [`busybox_image`] as `busybox:latest`.
#[must_use]
pub fn busybox() -> Vec<u8> {
    busybox_image().archive(&["busybox:latest"]).expect("busybox fits into an archive")
}

fn busybox_layer() -> std::io::Result<Vec<u8>> {
    let program = fs::read(BUSYBOX)?;
    let applets = Output::of(Command::new(BUSYBOX).arg("--list")).success().stdout();
    let links: Vec<String> =
        applets.lines().filter(|name| *name != "busybox").map(|name| format!("bin/{name}")).collect();
    let mut entries = vec![
        Entry::Directory("bin", 0o755),
        Entry::File("bin/busybox", 0o755, &program),
        Entry::Directory("etc", 0o755),
        Entry::File(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/home/sailor:/bin/sh\n",
        ),
        Entry::File("etc/group", 0o644, b"root:x:0:\nsailor:x:1000:\ncrew:x:2000:sailor\n"),
        Entry::Directory("home", 0o755),
        Entry::Directory("home/sailor", 0o755),
        Entry::Directory("root", 0o700),
        Entry::Directory("tmp", 0o1777),
        Entry::Directory("var", 0o755),
        Entry::Directory("var/www", 0o755),
        Entry::File("var/www/index.html", 0o644, b"ahoy\n"),
    ];
    entries.extend(links.iter().map(|name| Entry::Symlink(name, "busybox")));
    hello_image::layer(&entries)
}

/// A Debian root file system as an image: one layer, made once by mmdebstrap and kept under `target`.
///
/// # Panics
/// When mmdebstrap fails.
#[must_use]
pub fn debian_image() -> Image {
    debian_with("debian", &[])
}

/// A Debian root file system with more packages, under a name of its own, made and kept like
/// [`debian_image`].
///
/// # Panics
/// When mmdebstrap fails.
#[must_use]
pub fn debian_with(name: &str, packages: &[&str]) -> Image {
    let file = debian_layer(name, packages);
    let layer = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    Image::new()
        .config("Cmd", json!(["/bin/bash"]))
        .config("Env", json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]))
        .raw_layer(layer)
}

fn debian_layer(name: &str, packages: &[&str]) -> PathBuf {
    let folder = settings::target().join("fixtures");
    fs::create_dir_all(&folder).expect("a folder for fixtures");
    let file = folder.join(format!("{name}.tar"));
    // Two test programs may want it at once: the second waits here for the first.
    let lock = fs::File::create(folder.join(format!("{name}.lock"))).expect("a lock file");
    lock.lock().expect("the lock is granted");
    if !file.exists() {
        let partial = folder.join(format!("{name}.partial.tar"));
        let made = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=essential", "--format=tar"])
            .args((!packages.is_empty()).then(|| format!("--include={}", packages.join(","))))
            .arg("bookworm")
            .arg(&partial)
            .args(debian_sources())
            .stdin(Stdio::null())
            .status()
            .expect("mmdebstrap starts");
        assert!(made.success(), "mmdebstrap failed");
        fs::rename(&partial, &file).expect("the finished layer gets its name");
    }
    file
}

/// The machine's own Debian sources; further repositories of the machine are none of the fixture's.
fn debian_sources() -> Vec<PathBuf> {
    ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"]
        .into_iter()
        .map(PathBuf::from)
        .filter(|file| fs::read_to_string(file).is_ok_and(|text| text.contains("bookworm")))
        .take(1)
        .collect()
}
