//! /dev: a file system of its own with the nodes that every program expects, and those that were asked for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::Step;
use super::{filesystems, inside};
use crate::error::Failure;
use crate::plan::{Device, DeviceKind};

const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Makes it, detached.
pub(super) fn file_system() -> io::Result<OwnedFd> {
    let options = [("mode", "755"), ("size", "65536k")];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let dev = filesystems::make("tmpfs", "tmpfs", &options, attributes)?;
    for (name, major, minor) in NODES {
        let number = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(&dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), number)?;
    }
    for (name, to) in LINKS {
        rustix::fs::symlinkat(to, &dev, name)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755))?;
    }
    Ok(dev)
}

/// Makes one node more.
pub(super) fn make_node(root: BorrowedFd<'_>, device: &Device) -> Step<()> {
    let path = device.path.display();
    let failed = |error: Errno| Failure::step(format!("creating device node {path}"))(error.into());
    let (directory, name) = inside::make_parent(root, &device.path)
        .map_err(Failure::step(format!("creating device node {path}")))?;
    let kind = match device.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
    };
    let mode = Mode::from_raw_mode(device.mode & 0o777);
    let number = rustix::fs::makedev(device.major, device.minor);
    match rustix::fs::mknodat(&directory, name, kind, mode, number) {
        // One of the standard ones, or the image's.
        Err(Errno::EXIST) => return Ok(()),
        result => result.map_err(failed)?,
    }
    let node = inside::open(directory.as_fd(), Path::new(name), OFlags::PATH | OFlags::NOFOLLOW)
        .map_err(Failure::step(format!("creating device node {path}")))?;
    if device.uid == 0 && device.gid == 0 {
        return Ok(());
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(device.uid), rustix::fs::Gid::from_raw(device.gid));
    rustix::fs::chownat(&node, "", Some(uid), Some(gid), rustix::fs::AtFlags::EMPTY_PATH).map_err(failed)
}

/// Every device of the machine, for a privileged container. What is not a plain node, or is the container's own, stays out.
pub(super) fn of_host() -> io::Result<Vec<Device>> {
    const OWN: [&str; 8] = ["pts", "shm", "mqueue", "fd", "console", "ptmx", "tty", "null"];
    let mut devices = Vec::new();
    for entry in std::fs::read_dir("/dev")? {
        let entry = entry?;
        let file_type = entry.file_type()?;
        let own = OWN.iter().any(|name| entry.file_name() == *name);
        if own || file_type.is_symlink() {
            continue;
        }
        match Device::from_host(&entry.path(), &entry.path(), "rwm") {
            Ok(found) => devices.extend(found),
            // A socket or a pipe, or a device that is gone already.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(devices)
}
