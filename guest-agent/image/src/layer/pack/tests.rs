//! Trees become tars and trees again, and nothing is lost on the way.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::AtomicU64;

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::{Pack, PackError};
use crate::layer::{Arrival, DIFF, Promise, UnpackLimits, ingest};

fn pack(how: Pack<'_>, directory: &Path) -> Result<Vec<u8>, PackError> {
    let mut archive = Vec::new();
    how.tree(File::open(directory).unwrap(), &mut archive).map(|()| archive)
}

fn unpack(tar: &[u8], directory: &Path) {
    let (sink, arrivals) = tokio::sync::mpsc::channel(2);
    sink.try_send(Arrival::Data(tar.to_vec().into())).unwrap();
    sink.try_send(Arrival::End).unwrap();
    ingest(arrivals, directory, &UnpackLimits::default(), Promise::default(), &AtomicU64::new(0)).unwrap();
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: whiteouts, owners and devices need root");
    }
    root
}

fn node(path: &Path, kind: FileType, mode: u32, device: u64) {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), device).unwrap();
}

fn attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// One of everything that an upper directory can hold.
fn everything(root: &Path) {
    fs::set_permissions(root, fs::Permissions::from_mode(0o711)).unwrap();
    fs::create_dir_all(root.join("opaque/inner")).unwrap();
    attribute(&root.join("opaque"), "trusted.overlay.opaque", b"y");
    attribute(&root.join("opaque"), "trusted.overlay.origin", b"elsewhere");
    node(&root.join("gone"), FileType::CharacterDevice, 0, 0);
    fs::hard_link(root.join("gone"), root.join("opaque/gone-too")).unwrap();
    fs::write(root.join("tool"), vec![7; 70_000]).unwrap();
    fs::set_permissions(root.join("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::chown(root.join("tool"), Some(1000), Some(3_000_000)).unwrap();
    // Version 2, effective, CAP_NET_BIND_SERVICE. Changing the owner would have cleared it.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    attribute(&root.join("tool"), "security.capability", &capability);
    fs::write(root.join("again"), b"one file").unwrap();
    fs::hard_link(root.join("again"), root.join("opaque/linked")).unwrap();
    symlink("a/../nowhere", root.join("link")).unwrap();
    fs::hard_link(root.join("link"), root.join("link-of-link")).unwrap();
    node(&root.join("null"), FileType::CharacterDevice, 0o666, rustix::fs::makedev(1, 3));
    node(&root.join("disk"), FileType::BlockDevice, 0o660, rustix::fs::makedev(259, 70_000));
    node(&root.join("pipe"), FileType::Fifo, 0o620, 0);
    fs::write(root.join(OsStr::from_bytes(b"not \xff utf-8")), b"x").unwrap();
    fs::create_dir_all(root.join("long".repeat(50)).join("name".repeat(40))).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"middle", 5 << 30).unwrap();
    sparse.set_len(9 << 30).unwrap();
    let old = Timespec { tv_sec: -7, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: old, last_modification: old };
    rustix::fs::utimensat(CWD, root.join("again"), &times, rustix::fs::AtFlags::empty()).unwrap();
}

/// What must be equal of each file, by name.
fn describe(root: &Path) -> Vec<(CString, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let whiteout = metadata.mode() & 0o170_000 == 0o020_000 && metadata.rdev() == 0;
        let capability = rustix::fs::lgetxattr(&path, "security.capability", &mut [0; 64][..]).ok();
        let opaque = rustix::fs::lgetxattr(&path, "trusted.overlay.opaque", &mut [0; 64][..]).ok();
        let target = fs::read_link(&path).ok();
        let what = if whiteout {
            "whiteout".to_owned()
        } else {
            format!(
                "{:o} {}:{} {} {}.{} links {} size {} {target:?} {capability:?} {opaque:?}",
                metadata.mode(),
                metadata.uid(),
                metadata.gid(),
                metadata.rdev(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                if metadata.is_dir() { 0 } else { metadata.nlink() },
                if metadata.is_file() { metadata.size() } else { 0 },
            )
        };
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
        found.push((CString::new(name).unwrap(), what));
    }
    found.sort();
    found
}

#[test]
fn unpacking_is_the_exact_inverse_of_packing() {
    if !is_root() {
        return;
    }
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    everything(from.path());
    let archive = pack(Pack::layer(), from.path()).unwrap();
    assert!(archive.len() < 1 << 20, "holes were written: {} bytes", archive.len());
    unpack(&archive, to.path());
    let made = to.path().join(DIFF);
    assert_eq!(describe(&made), describe(from.path()));
    let sparse = File::open(made.join("sparse")).unwrap();
    let mut middle = [0; 6];
    sparse.read_exact_at(&mut middle, 5 << 30).unwrap();
    assert_eq!(&middle, b"middle");
    assert!(sparse.metadata().unwrap().blocks() < 2048);
    assert!(pack(Pack::layer(), &made).unwrap() == archive, "the same tree gave other bytes");
}

#[test]
fn a_plain_archive_is_read_by_others() {
    let from = tempfile::tempdir().unwrap();
    fs::create_dir(from.path().join("d")).unwrap();
    fs::write(from.path().join("d/a"), b"hello").unwrap();
    symlink("a", from.path().join("d/b")).unwrap();
    let archive = pack(Pack::plain(), from.path()).unwrap();
    let mut reader = tar::Archive::new(archive.as_slice());
    let names: Vec<_> =
        reader.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert_eq!(names, ["d/", "d/a", "d/b"].map(std::path::PathBuf::from));
}

#[test]
fn one_entry_takes_the_name_it_is_given_with_all_below_it() {
    let from = tempfile::tempdir().unwrap();
    fs::create_dir_all(from.path().join("d/e")).unwrap();
    let mut archive = Vec::new();
    let parent = File::open(from.path()).unwrap();
    Pack::plain().entry(&parent, OsStr::new("d"), b"renamed", &mut archive).unwrap();
    let mut reader = tar::Archive::new(archive.as_slice());
    let names: Vec<_> =
        reader.entries().unwrap().map(|entry| entry.unwrap().path_bytes().into_owned()).collect();
    assert_eq!(names, [b"renamed/".to_vec(), b"renamed/e/".to_vec()]);
}

#[test]
fn owners_are_translated_and_paths_left_out() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("kept"), b"").unwrap();
    fs::create_dir(from.path().join("proc")).unwrap();
    fs::write(from.path().join("proc/left-out"), b"").unwrap();
    let owner = |uid, gid| (uid + 42, gid + 43);
    let how = Pack { owner: &owner, admit: &|path| path != b"proc", ..Pack::plain() };
    let archive = pack(how, from.path()).unwrap();
    let own = fs::metadata(from.path()).unwrap();
    let mut reader = tar::Archive::new(archive.as_slice());
    let found: Vec<_> = reader
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.path_bytes().into_owned(), entry.header().uid().unwrap(), entry.header().gid().unwrap())
        })
        .collect();
    assert_eq!(found, [(b"kept".to_vec(), u64::from(own.uid()) + 42, u64::from(own.gid()) + 43)]);
}

#[test]
fn a_name_that_would_mean_a_removal_is_refused() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join(".wh.passwd"), b"").unwrap();
    let error = pack(Pack::layer(), from.path()).unwrap_err();
    assert!(matches!(error, PackError::Reserved { name } if name == ".wh.passwd"));
}

#[test]
fn a_tree_without_end_is_refused() {
    let from = tempfile::tempdir().unwrap();
    let mut directory: std::os::fd::OwnedFd = File::open(from.path()).unwrap().into();
    for _ in 0..super::MAX_DEPTH + 1 {
        rustix::fs::mkdirat(&directory, "d", Mode::from_raw_mode(0o755)).unwrap();
        directory =
            rustix::fs::openat(&directory, "d", rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    // Each level keeps a descriptor open; a machine that grants fewer refuses by itself.
    let error = pack(Pack::plain(), from.path()).unwrap_err();
    assert!(matches!(error, PackError::TooDeep | PackError::Read { .. }), "{error}");
}
