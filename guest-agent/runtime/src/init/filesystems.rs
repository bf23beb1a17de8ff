//! Making and attaching mounts by descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

/// nosuid, nodev, noexec: what a kernel file system is mounted with.
pub(super) fn inert() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC
}

/// A new file system, attached nowhere yet. An option without a value is a flag.
pub(super) fn make(
    kind: &str,
    source: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    rustix::mount::fsconfig_set_string(context, "source", source)?;
    for (name, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(context, *name)?;
        } else {
            rustix::mount::fsconfig_set_string(context, *name, *value)?;
        }
    }
    rustix::mount::fsconfig_create(context)?;
    Ok(rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A copy of the mount of what `of` stands for, beginning there.
pub(crate) fn copy(of: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    Ok(rustix::mount::open_tree(of, "", flags)?)
}

/// Attaches a detached mount on top of what `target` stands for.
pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}

/// Sets mount attributes.
pub(super) fn set(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    let attributes = sys::mount::Attributes { set: attributes, ..sys::mount::Attributes::default() };
    sys::mount::set_attributes(mount, attributes, recursive)
}

/// Sets how mounts travel.
pub(super) fn set_propagation(mount: BorrowedFd<'_>, propagation: u64, recursive: bool) -> io::Result<()> {
    let attributes = sys::mount::Attributes { propagation, ..sys::mount::Attributes::default() };
    sys::mount::set_attributes(mount, attributes, recursive)
}
