//! A container's files as it sees them, from the outside: for copies, exports and diffs.
//!
//! A running container's own mount namespace is looked into through its root. For one that doesn't run the root and
//! its mounts are made anew, in a mount namespace that a thread of ours has for the purpose: the engine's own mount
//! table stays as it is, and everything is gone with the [`View`].
//!
//! No program of the container runs, and no code or library of it is loaded: paths are resolved by the kernel,
//! confined to the root, and what they lead to is used through its descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::init::{inside, rootfs};
use crate::plan::{Mount, Rootfs};
use crate::process::{NamespaceKind, Process};
use crate::runtime::Runtime;

/// The root of a container and what is mounted in it.
#[derive(Debug)]
pub struct View {
    root: OwnedFd,
    /// Keeps the mounts below the root where they are.
    _namespace: Option<OwnedFd>,
}

impl View {
    /// What `path` leads to, links followed as a process in the container would follow them.
    pub fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        inside::open(self.root.as_fd(), path, flags)
    }

    /// The directory at `path`, made with those above it when it is missing.
    pub fn make_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        inside::make_directory(self.root.as_fd(), path)
    }

    /// The root itself.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl Process {
    /// The container's files with everything that is mounted there.
    pub fn view(&self) -> io::Result<View> {
        Ok(View { root: self.root()?, _namespace: None })
    }

    /// The container's root file system alone, without what is mounted in it.
    pub fn bare_view(&self) -> io::Result<View> {
        let namespace = self.namespace(NamespaceKind::Mount)?;
        apart(move || {
            sys::namespace::join(namespace.as_fd(), libc::CLONE_NEWNS as u64)?;
            let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            let root = crate::init::filesystems::copy(root.as_fd(), false)?;
            Ok(View { root, _namespace: None })
        })
    }
}

impl Runtime {
    /// The files of a container that doesn't run, with its mounts. A mount whose source is gone is left out.
    pub fn view(&self, plan: &Rootfs, mounts: &[Mount]) -> io::Result<View> {
        if mounts.is_empty() {
            return Ok(View { root: self.mount_rootfs(plan)?, _namespace: None });
        }
        let (plan, mounts) = (plan.clone(), mounts.to_vec());
        apart(move || {
            let root = rootfs::assemble(&plan, &mounts)?;
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let namespace = rustix::fs::open("/proc/thread-self/ns/mnt", flags, Mode::empty())?;
            Ok(View { root, _namespace: Some(namespace) })
        })
    }
}

/// Runs `work` in a thread with a mount namespace of its own.
fn apart(work: impl FnOnce() -> io::Result<View> + Send + 'static) -> io::Result<View> {
    let thread = std::thread::Builder::new().name("view".into()).spawn(move || {
        sys::namespace::unshare(libc::CLONE_NEWNS as u64)?;
        work()
    })?;
    thread.join().map_err(|_| io::Error::other("a thread that opened a container's files panicked"))?
}
