//! The files that a VM boots from, and the disk that it keeps its state on.
//!
//! The image (kernel and initramfs) is read-only and checked against its `manifest.json`; the data disk is a sparse
//! raw file that grows and never shrinks.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Architecture;
use crate::model::{DiskStatus, Failure, FailureKind};

/// Room that the file system under the data disk must have before a VM is started on it.
const MIN_FREE: u64 = 512 << 20;

/// The name by which the guest knows its data disk, as a virtio-blk serial number.
pub const DATA_DISK_SERIAL: &str = "sampan-data";

/// The VM image, found whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Which processors it is for.
    pub architecture: Architecture,
    /// The kernel as this architecture's loaders want it.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    arch: Architecture,
    outputs: Vec<Output>,
}

#[derive(Debug, Deserialize)]
struct Output {
    name: String,
    size: u64,
    sha256: String,
}

/// What was checked, so that the next start needn't read 45 MB again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    manifest: String,
    files: Vec<FileFacts>,
}

/// What is cheap to know of a file, and changes with whoever changes it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileFacts {
    name: String,
    size: u64,
    modified: (i64, i64),
    inode: u64,
}

impl Image {
    /// Finds the image in `dir` and checks it. `seal` is a file that remembers what was checked already.
    pub fn open(dir: &Path, seal: &Path) -> Result<Image, Failure> {
        let (manifest, text) = Manifest::read(dir)?;
        let now = Seal { manifest: hex(&Sha256::digest(text.as_bytes())), files: facts(dir, &manifest)? };
        let known = fs::read(seal).ok().and_then(|bytes| serde_json::from_slice::<Seal>(&bytes).ok());
        if known.as_ref() != Some(&now) {
            for output in &manifest.outputs {
                check_digest(&dir.join(&output.name), output)?;
            }
            // A seal that can't be written costs the next start a second, no more.
            if let Ok(bytes) = serde_json::to_vec(&now) {
                let _ = fs::write(seal, bytes);
            }
        }
        let find = |names: &[&str]| {
            let found = manifest.outputs.iter().find(|output| names.contains(&output.name.as_str()));
            found.map(|output| dir.join(&output.name))
        };
        let kernel = find(&["vmlinux", "Image"]);
        let initramfs = find(&["initramfs.img"]);
        match (kernel, initramfs) {
            (Some(kernel), Some(initramfs)) => Ok(Image { architecture: manifest.arch, kernel, initramfs }),
            _ => Err(bad(format!("the manifest in `{}` names no kernel or no initramfs", dir.display()))),
        }
    }

    /// Which processors the image in `dir` is for, as far as its manifest can be read.
    pub fn architecture_of(dir: &Path) -> Option<Architecture> {
        Some(Manifest::read(dir).ok()?.0.arch)
    }
}

impl Manifest {
    /// Reads it; with its text.
    fn read(dir: &Path) -> Result<(Manifest, String), Failure> {
        let path = dir.join("manifest.json");
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::new(
                FailureKind::MissingDependency,
                format!("there is no VM image in `{}`: build it with `make vm-image`", dir.display()),
            ),
            _ => Failure::system(format!("cannot read `{}`", path.display()), error),
        })?;
        let manifest = serde_json::from_str(&text)
            .map_err(|error| bad(format!("`{}` is no image manifest: {error}", path.display())))?;
        Ok((manifest, text))
    }
}

fn bad(message: String) -> Failure {
    Failure::new(FailureKind::BadImage, message)
}

fn facts(dir: &Path, manifest: &Manifest) -> Result<Vec<FileFacts>, Failure> {
    let facts = |output: &Output| {
        if Path::new(&output.name).components().count() != 1 {
            return Err(bad(format!(
                "the image manifest names a file outside its directory: `{}`",
                output.name
            )));
        }
        let path = dir.join(&output.name);
        let meta = fs::metadata(&path).map_err(|error| {
            bad(format!("`{}` of the VM image cannot be read ({error}): build it again", path.display()))
        })?;
        if meta.len() != output.size {
            return Err(bad(format!(
                "`{}` has {} bytes where its manifest says {}: build the VM image again",
                path.display(),
                meta.len(),
                output.size
            )));
        }
        let modified = (meta.mtime(), meta.mtime_nsec());
        Ok(FileFacts { name: output.name.clone(), size: meta.len(), modified, inode: meta.ino() })
    };
    manifest.outputs.iter().map(facts).collect()
}

fn check_digest(path: &Path, output: &Output) -> Result<(), Failure> {
    let digest = digest_of(path)
        .map_err(|error| Failure::system(format!("cannot read `{}`", path.display()), error))?;
    if digest == output.sha256 {
        return Ok(());
    }
    Err(bad(format!("`{}` is not what its manifest says: build the VM image again", path.display()))
        .with_details(format!("expected sha256 {}, found {digest}", output.sha256)))
}

fn digest_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Makes the data disk, or grows it to `size`. Returns a warning when it is larger already.
pub fn prepare_disk(path: &Path, size: u64) -> Result<Option<String>, Failure> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let system = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge => no_space(dir, 0),
        _ => Failure::system(format!("cannot make the data disk `{}`", path.display()), error),
    };
    fs::create_dir_all(dir).map_err(system)?;
    let free = free_bytes(dir).map_err(system)?;
    if free < MIN_FREE {
        return Err(no_space(dir, free));
    }
    let disk =
        File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(system)?;
    let present = disk.metadata().map_err(system)?.len();
    if present < size {
        disk.set_len(size).map_err(system)?;
    }
    Ok((present > size).then(|| {
        let gib = |bytes: u64| bytes >> 30;
        format!(
            "the data disk has {} GiB and is not made smaller, though the settings say {} GiB",
            gib(present),
            gib(size)
        )
    }))
}

fn no_space(dir: &Path, free: u64) -> Failure {
    let message = format!(
        "only {} MiB are free where `{}` is, and the VM needs at least {} MiB: make room or move the directory",
        free >> 20,
        dir.display(),
        MIN_FREE >> 20
    );
    Failure::new(FailureKind::NoDiskSpace, message)
}

fn free_bytes(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What the data disk takes, if it is there.
pub fn disk_status(path: &Path) -> Option<DiskStatus> {
    let meta = fs::metadata(path).ok()?;
    Some(DiskStatus { path: path.to_owned(), size: meta.len(), used: meta.blocks() * 512 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path) {
        let entry = |name: &str, bytes: &[u8]| {
            fs::write(dir.join(name), bytes).unwrap();
            serde_json::json!({ "name": name, "size": bytes.len(), "sha256": hex(&Sha256::digest(bytes)) })
        };
        let outputs = [entry("vmlinux", b"kernel"), entry("initramfs.img", b"files")];
        fs::write(
            dir.join("manifest.json"),
            serde_json::json!({ "arch": "arm64", "outputs": outputs }).to_string(),
        )
        .unwrap();
    }

    #[test]
    fn a_whole_image_is_found() {
        let dir = tempfile::tempdir().unwrap();
        image(dir.path());
        let found = Image::open(dir.path(), &dir.path().join("seal")).unwrap();
        assert_eq!(found.architecture, Architecture::Arm64);
        assert_eq!(Image::architecture_of(dir.path()), Some(Architecture::Arm64));
        assert_eq!(found.kernel, dir.path().join("vmlinux"));
        assert_eq!(found.initramfs, dir.path().join("initramfs.img"));
    }

    #[test]
    fn a_changed_file_is_refused_even_when_its_size_is_right_and_it_was_sealed_before() {
        let dir = tempfile::tempdir().unwrap();
        image(dir.path());
        let seal = dir.path().join("seal");
        Image::open(dir.path(), &seal).unwrap();
        // A new file, so a new inode: a write within the clock's tick could leave the times as they were.
        fs::write(dir.path().join("new"), b"kernal").unwrap();
        fs::rename(dir.path().join("new"), dir.path().join("vmlinux")).unwrap();
        let failure = Image::open(dir.path(), &seal).unwrap_err();
        assert_eq!(failure.kind, FailureKind::BadImage);
        assert!(failure.message.contains("is not what its manifest says"), "{failure}");
    }

    #[test]
    fn a_truncated_file_is_named_with_both_sizes() {
        let dir = tempfile::tempdir().unwrap();
        image(dir.path());
        fs::write(dir.path().join("initramfs.img"), b"fil").unwrap();
        let failure = Image::open(dir.path(), &dir.path().join("seal")).unwrap_err();
        assert!(failure.message.contains("has 3 bytes where its manifest says 5"), "{failure}");
    }

    #[test]
    fn a_missing_image_says_how_to_build_it() {
        let dir = tempfile::tempdir().unwrap();
        let failure = Image::open(dir.path(), &dir.path().join("seal")).unwrap_err();
        assert_eq!(failure.kind, FailureKind::MissingDependency);
        assert!(failure.message.contains("make vm-image"), "{failure}");
    }

    #[test]
    fn a_manifest_cannot_reach_outside_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let outputs = serde_json::json!({ "arch": "arm64", "outputs": [{ "name": "../vmlinux", "size": 0, "sha256": "" }] });
        fs::write(dir.path().join("manifest.json"), outputs.to_string()).unwrap();
        let failure = Image::open(dir.path(), &dir.path().join("seal")).unwrap_err();
        assert!(failure.message.contains("outside its directory"), "{failure}");
    }

    #[test]
    fn the_disk_is_sparse_grows_and_is_never_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data/data.img");
        assert_eq!(prepare_disk(&path, 1 << 30).unwrap(), None);
        let status = disk_status(&path).unwrap();
        assert_eq!(status.size, 1 << 30);
        assert!(status.used < 1 << 20, "{status:?}");
        assert_eq!(prepare_disk(&path, 2 << 30).unwrap(), None);
        assert_eq!(disk_status(&path).unwrap().size, 2 << 30);
        let warning = prepare_disk(&path, 1 << 30).unwrap().unwrap();
        assert!(warning.contains("has 2 GiB and is not made smaller"), "{warning}");
        assert_eq!(disk_status(&path).unwrap().size, 2 << 30);
    }
}
