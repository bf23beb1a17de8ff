//! What `rustix::mount` lacks of the mount API.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::check;

/// What [`set_attributes`] changes of a mount.
#[derive(Debug, Default, Clone, Copy)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`; 0 leaves the propagation alone.
    pub propagation: u64,
}

/// `MOUNT_ATTR_RDONLY`.
pub const READ_ONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID`.
pub const NO_SUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV`.
pub const NO_DEV: u64 = 0x4;
/// `MOUNT_ATTR_NOEXEC`.
pub const NO_EXEC: u64 = 0x8;
/// `MS_PRIVATE`.
pub const PRIVATE: u64 = libc::MS_PRIVATE;
/// `MS_SLAVE`.
pub const SLAVE: u64 = libc::MS_SLAVE;
/// `MS_SHARED`.
pub const SHARED: u64 = libc::MS_SHARED;

#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Changes a mount that `mount` is the root of, with all mounts below it when `recursive`.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: Attributes, recursive: bool) -> io::Result<()> {
    let Attributes { set, clear, propagation } = attributes;
    change(mount, recursive, &MountAttributes { set, clear, propagation, user_namespace: 0 })
}

/// Makes a detached mount translate owners by the map of `user_namespace`.
pub fn set_id_map(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    const ID_MAP: u64 = 0x0010_0000;
    let user_namespace = user_namespace.as_raw_fd() as u64;
    change(mount, recursive, &MountAttributes { set: ID_MAP, clear: 0, propagation: 0, user_namespace })
}

fn change(mount: BorrowedFd<'_>, recursive: bool, attributes: &MountAttributes) -> io::Result<()> {
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads `size_of::<MountAttributes>()` bytes of a struct of that layout
    // (mount_setattr(2)) which, like the static empty path, outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            attributes as *const MountAttributes,
            size_of::<MountAttributes>(),
        )
    })?;
    Ok(())
}

/// Makes the mount at the working directory this process's root, and detaches the old root with all below it.
pub fn pivot_root_here() -> io::Result<()> {
    // SAFETY: both paths are static NUL-terminated strings. With both naming the new root, the old one ends
    // up stacked on it, where the unmount finds it (pivot_root(2), "pivot_root(".", ".")").
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: the path is a static NUL-terminated string.
    check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }.into())?;
    Ok(())
}
