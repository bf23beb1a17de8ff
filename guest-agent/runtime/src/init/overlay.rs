//! A root file system out of layers: an overlay mount that is made detached, by the new mount API.
//!
//! One `lowerdir+` call per layer has no limit on the length of paths. Kernels before 6.8 lack it; there the layers are
//! named by their descriptors, which keeps the one option string short enough for 200 of them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use crate::plan::Rootfs;

/// How many layers one overlay takes (OVL_MAX_STACK).
const MOST_LAYERS: usize = 500;

/// Makes the mount; it is attached nowhere, and gone with the descriptor.
pub(crate) fn mount(rootfs: &Rootfs) -> io::Result<OwnedFd> {
    if rootfs.lowers.is_empty() {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        return Ok(rustix::mount::open_tree(rustix::fs::CWD, &rootfs.upper, flags)?);
    }
    if rootfs.lowers.len() > MOST_LAYERS {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    match mount_by_layer(rootfs) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => mount_by_descriptor(rootfs),
        result => result,
    }
}

fn mount_by_layer(rootfs: &Rootfs) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for lower in &rootfs.lowers {
        rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir+", lower)?;
    }
    finish(context, rootfs)
}

fn mount_by_descriptor(rootfs: &Rootfs) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let layers = rootfs
        .lowers
        .iter()
        .map(|lower| rustix::fs::open(lower, flags, Mode::empty()))
        .collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> =
        layers.iter().map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd())).collect();
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir", names.join(":"))?;
    finish(context, rootfs)
}

fn finish(context: OwnedFd, rootfs: &Rootfs) -> io::Result<OwnedFd> {
    let context = context.as_fd();
    rustix::mount::fsconfig_set_string(context, "upperdir", &rootfs.upper)?;
    rustix::mount::fsconfig_set_string(context, "workdir", &rootfs.work)?;
    rustix::mount::fsconfig_set_string(context, "source", "overlay")?;
    rustix::mount::fsconfig_create(context)?;
    Ok(rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}
