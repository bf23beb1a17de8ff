//! A root file system out of layers: an overlay mount that is made detached, by the new mount API.
//!
//! One `lowerdir+` call per layer takes 500 of them. The mount API takes values of at most 255 bytes, so a longer path is
//! named by a descriptor. Kernels before 6.8 lack `lowerdir+`; there all layers have to fit into one such value, which
//! the names of about a dozen descriptors do, and more are refused with `E2BIG`.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

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

/// Layers without a directory for changes: nothing can be written.
pub(crate) fn mount_layers(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    match layers {
        [] => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        [one] => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            Ok(rustix::mount::open_tree(rustix::fs::CWD, one, flags)?)
        }
        layers => match stack(layers) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create(stack_by_descriptor(layers)?),
            result => create(result?),
        },
    }
}

fn mount_by_layer(rootfs: &Rootfs) -> io::Result<OwnedFd> {
    finish(stack(&rootfs.lowers)?, rootfs)
}

fn mount_by_descriptor(rootfs: &Rootfs) -> io::Result<OwnedFd> {
    finish(stack_by_descriptor(&rootfs.lowers)?, rootfs)
}

fn stack(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let lowers = layers.iter().map(|lower| Value::of(lower)).collect::<io::Result<Vec<_>>>()?;
    for lower in &lowers {
        rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir+", lower.name())?;
    }
    Ok(context)
}

fn stack_by_descriptor(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    let lowers = layers.iter().map(|lower| Value::opened(lower)).collect::<io::Result<Vec<_>>>()?;
    let names = lowers.iter().map(|lower| lower.name().to_string_lossy()).collect::<Vec<_>>().join(":");
    if names.len() > LONGEST_VALUE {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir", names)?;
    Ok(context)
}

fn finish(context: OwnedFd, rootfs: &Rootfs) -> io::Result<OwnedFd> {
    let (upper, work) = (Value::of(&rootfs.upper)?, Value::of(&rootfs.work)?);
    rustix::mount::fsconfig_set_string(context.as_fd(), "upperdir", upper.name())?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "workdir", work.name())?;
    create(context)
}

fn create(context: OwnedFd) -> io::Result<OwnedFd> {
    let context = context.as_fd();
    rustix::mount::fsconfig_set_string(context, "source", "overlay")?;
    rustix::mount::fsconfig_create(context)?;
    Ok(rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// The longest value that fsconfig takes.
const LONGEST_VALUE: usize = 255;

/// A directory as fsconfig takes it.
enum Value<'a> {
    Path(&'a Path),
    /// A path in /proc, good for as long as the descriptor is open.
    Opened {
        name: PathBuf,
        _directory: OwnedFd,
    },
}

impl Value<'_> {
    fn of(path: &Path) -> io::Result<Value<'_>> {
        if path.as_os_str().len() <= LONGEST_VALUE { Ok(Value::Path(path)) } else { Value::opened(path) }
    }

    fn opened(path: &Path) -> io::Result<Value<'_>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        let name = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        Ok(Value::Opened { name, _directory: directory })
    }

    fn name(&self) -> &OsStr {
        match self {
            Value::Path(path) => path.as_os_str(),
            Value::Opened { name, .. } => name.as_os_str(),
        }
    }
}
