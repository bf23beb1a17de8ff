//! Building the container's root file system around this process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{MountAttrFlags, MoveMountFlags};

use super::filesystems::{self, attach, inert};
use super::wire::LaunchTask;
use super::{Step, devices, inside, overlay};
use crate::error::{Failure, number};
use crate::plan::{Mount, MountKind, Propagation, Rootfs, TmpfsOptions};

/// A root file system with everything mounted, which is not entered yet.
pub(super) struct Built {
    pub(super) root: OwnedFd,
    /// The container's devpts; `None` when the plan brings a /dev of its own.
    pub(super) terminals: Option<OwnedFd>,
}

/// Builds it, attached at `task.rootfs.target` in this mount namespace.
pub(super) fn build(task: &LaunchTask) -> Step<Built> {
    // Files and directories get the very modes that they are made with.
    rustix::process::umask(Mode::empty());
    // All that is the host's is opened first: while mounts still are what they were, and before any path could be the
    // container's.
    let sources = task.mounts.iter().map(open_source).collect::<Step<Vec<_>>>()?;
    let null = open_null()?;
    let mut nodes = task.devices.clone();
    if task.privileged {
        nodes.extend(devices::of_host().map_err(Failure::step("listing the machine's devices"))?);
    }
    leave_peers()?;
    let sources = task
        .mounts
        .iter()
        .zip(sources)
        .map(|(mount, source)| {
            source.map_or_else(|| open_layers(mount, &task.rootfs.target), |one| Ok(Some(one)))
        })
        .collect::<Step<Vec<_>>>()?;
    let root = attach_root(&task.rootfs, task.no_device_nodes)?;
    let standard = Standard { task, root: root.as_fd() };
    super::set_sysctls(standard.proc()?.as_fd(), &task.sysctls)?;
    let terminals = standard.dev()?;
    standard.sys()?;
    mount_all(&task.mounts, root.as_fd(), sources)?;
    for node in &nodes {
        devices::make_node(root.as_fd(), node)?;
    }
    for path in &task.readonly_paths {
        make_readonly(root.as_fd(), path)?;
    }
    for path in &task.masked_paths {
        mask(root.as_fd(), path, null.as_fd())?;
    }
    Ok(Built { root, terminals })
}

/// Attaches a root file system with its binds in this mount namespace, for looking into a container that doesn't run.
/// A bind without its source is left out.
pub(crate) fn assemble(rootfs: &Rootfs, mounts: &[Mount]) -> io::Result<OwnedFd> {
    let build = || -> Step<OwnedFd> {
        let (mut there, mut sources) = (Vec::new(), Vec::new());
        leave_peers()?;
        for mount in mounts.iter().filter(|mount| !matches!(mount.kind, MountKind::Tmpfs(_))) {
            let opened = match mount.kind {
                MountKind::Layers { .. } => open_layers(mount, &rootfs.target),
                _ => open_source(mount),
            };
            // What can't be opened is a volume that went, or a path of the host that is gone.
            if let Ok(source) = opened {
                there.push(mount.clone());
                sources.push(source);
            }
        }
        let root = attach_root(rootfs, false)?;
        mount_all(&there, root.as_fd(), sources)?;
        Ok(root)
    };
    build().map_err(|failure| io::Error::other(failure.to_string()))
}

/// Shows the terminal at /dev/console too.
pub(super) fn bind_console(root: BorrowedFd<'_>, terminal: BorrowedFd<'_>) -> Step<()> {
    let bind = || {
        let target = inside::make_file(root, Path::new("/dev/console"))?;
        attach(filesystems::copy(terminal, false)?.as_fd(), target.as_fd())
    };
    bind().map_err(Failure::mount("terminal", "/dev/console"))
}

/// Makes it the root of this process, and lets go of the host's file system for good.
pub(super) fn enter(built: Built, task: &LaunchTask, cwd: &str) -> Step<OwnedFd> {
    let Built { root, .. } = built;
    // As dockerd does for `WORKDIR`. What stands in the way is reported when it is entered.
    let _ = inside::make_directory(root.as_fd(), Path::new(cwd));
    if task.readonly_rootfs {
        filesystems::set(root.as_fd(), sys::mount::READ_ONLY, false)
            .map_err(Failure::step("making the root file system read-only"))?;
    }
    rustix::process::fchdir(&root).map_err(|error| Failure::step("entering the root")(error.into()))?;
    sys::mount::pivot_root_here().map_err(Failure::step("pivot_root"))?;
    rustix::process::chdir("/").map_err(|error| Failure::step("entering the root")(error.into()))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    super::open_root()
}

/// The source of a bind as a detached copy of its mount; nothing for other mounts.
fn open_source(mount: &Mount) -> Step<Option<OwnedFd>> {
    let MountKind::Bind { source, subpath, recursive, propagation, readonly_top_only } = &mount.kind else {
        return Ok(None);
    };
    let open = || -> io::Result<OwnedFd> {
        let mut found = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        if let Some(subpath) = subpath {
            found = inside::open_beneath(found.as_fd(), subpath, OFlags::PATH)?;
        }
        let copy = filesystems::copy(found.as_fd(), *recursive)?;
        let propagation = match propagation {
            Propagation::Private => sys::mount::PRIVATE,
            Propagation::Slave => sys::mount::SLAVE,
            Propagation::Shared => sys::mount::SHARED,
        };
        filesystems::set_propagation(copy.as_fd(), propagation, *recursive)?;
        if mount.readonly {
            filesystems::set(copy.as_fd(), sys::mount::READ_ONLY, *recursive && !readonly_top_only)?;
        }
        Ok(copy)
    };
    open().map(Some).map_err(Failure::mount(source.display(), mount.target.display()))
}

/// An image's files as a detached mount; nothing for other mounts. `scratch` is a directory to attach it at for a
/// moment: before Linux 6.15 a part of a mount can be copied only while the mount is attached.
fn open_layers(mount: &Mount, scratch: &Path) -> Step<Option<OwnedFd>> {
    let MountKind::Layers { layers, subpath } = &mount.kind else { return Ok(None) };
    let open = || -> io::Result<OwnedFd> {
        let whole = overlay::mount_layers(layers)?;
        filesystems::set_propagation(whole.as_fd(), sys::mount::PRIVATE, false)?;
        filesystems::set(whole.as_fd(), sys::mount::READ_ONLY, false)?;
        let Some(subpath) = subpath else { return Ok(whole) };
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&whole, "", rustix::fs::CWD, scratch, flags)?;
        let part = inside::open_beneath(whole.as_fd(), subpath, OFlags::PATH)
            .and_then(|part| filesystems::copy(part.as_fd(), false));
        rustix::mount::unmount(scratch, rustix::mount::UnmountFlags::DETACH)?;
        part
    };
    open().map(Some).map_err(Failure::mount("image", mount.target.display()))
}

/// The host's /dev/null, made sure of: it is what hides files.
fn open_null() -> Step<OwnedFd> {
    let open = || -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
        let status = rustix::fs::fstat(&null)?;
        let is_null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
            && status.st_rdev == rustix::fs::makedev(1, 3);
        if is_null { Ok(null) } else { Err(io::Error::from_raw_os_error(libc::ENODEV)) }
    };
    open().map_err(Failure::step("opening /dev/null"))
}

/// Keeps our mounts from travelling to the host; those of the host still come to binds that want them.
fn leave_peers() -> Step<()> {
    let leave = || {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        filesystems::set_propagation(root.as_fd(), sys::mount::SLAVE, true)
    };
    leave().map_err(Failure::step("making the mounts slaves of the host's"))
}

fn attach_root(rootfs: &Rootfs, no_device_nodes: bool) -> Step<OwnedFd> {
    let target = &rootfs.target;
    let mount = || -> io::Result<OwnedFd> {
        let root = overlay::mount(rootfs)?;
        filesystems::set_propagation(root.as_fd(), sys::mount::PRIVATE, false)?;
        if no_device_nodes {
            filesystems::set(root.as_fd(), sys::mount::NO_DEV, false)?;
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&root, "", rustix::fs::CWD, target, flags)?;
        Ok(root)
    };
    mount().map_err(Failure::mount("overlay", target.display()))
}

/// The mounts that every container has.
struct Standard<'a> {
    task: &'a LaunchTask,
    root: BorrowedFd<'a>,
}

impl Standard<'_> {
    fn replaced(&self, path: &str) -> bool {
        self.task.mounts.iter().any(|mount| mount.target == Path::new(path))
    }

    fn proc(&self) -> Step<OwnedFd> {
        let mount = || {
            let proc = filesystems::make("proc", "proc", &[], inert())?;
            if !self.replaced("/proc") {
                attach(proc.as_fd(), self.place("proc")?.as_fd())?;
            }
            Ok(proc)
        };
        mount().map_err(Failure::mount("proc", "/proc"))
    }

    /// Gives the devpts.
    fn dev(&self) -> Step<Option<OwnedFd>> {
        if self.replaced("/dev") {
            return Ok(None);
        }
        let dev = devices::file_system().map_err(Failure::mount("tmpfs", "/dev"))?;
        let placed = self.place("dev").and_then(|place| attach(dev.as_fd(), place.as_fd()));
        placed.map_err(Failure::mount("tmpfs", "/dev"))?;
        let below = |name: &str, kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags| {
            let mount = || {
                let mount = filesystems::make(kind, kind, options, attributes)?;
                let place = inside::open_exactly(dev.as_fd(), name, OFlags::PATH | OFlags::DIRECTORY)?;
                attach(mount.as_fd(), place.as_fd())?;
                Ok(mount)
            };
            mount().map_err(Failure::mount(kind, format!("/dev/{name}")))
        };
        let terminals = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
        let no_programs = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let pts = below("pts", "devpts", &terminals, no_programs)?;
        if !self.replaced("/dev/shm") {
            let size = self.task.shm_size.to_string();
            below("shm", "tmpfs", &[("mode", "1777"), ("size", &size)], inert())?;
        }
        if !self.replaced("/dev/mqueue") {
            below("mqueue", "mqueue", &[], inert())?;
        }
        Ok(Some(pts))
    }

    fn sys(&self) -> Step<()> {
        if self.replaced("/sys") {
            return Ok(());
        }
        let readonly =
            if self.task.privileged { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_RDONLY };
        let mount = || {
            let sys = filesystems::make("sysfs", "sysfs", &[], inert() | readonly)?;
            attach(sys.as_fd(), self.place("sys")?.as_fd())?;
            Ok(sys)
        };
        let sys = mount().map_err(Failure::mount("sysfs", "/sys"))?;
        if self.replaced("/sys/fs/cgroup") {
            return Ok(());
        }
        let cgroup = || {
            let place = inside::open_exactly(sys.as_fd(), "fs/cgroup", OFlags::PATH | OFlags::DIRECTORY)?;
            let cgroup = filesystems::make("cgroup2", "cgroup", &[], inert() | readonly)?;
            attach(cgroup.as_fd(), place.as_fd())
        };
        match cgroup() {
            // A kernel without cgroups.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => Ok(()),
            result => result.map_err(Failure::mount("cgroup", "/sys/fs/cgroup")),
        }
    }

    /// A directory right below the root, made when it is missing. A link in its place is refused: what would be masked
    /// below it later could be somewhere else then.
    fn place(&self, name: &str) -> io::Result<OwnedFd> {
        let open = || inside::open_exactly(self.root, name, OFlags::PATH | OFlags::DIRECTORY);
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                rustix::fs::mkdirat(self.root, name, Mode::from_raw_mode(0o755))?;
                open()
            }
            result => result,
        }
    }
}

/// The plan's own mounts, those nearer to the root first.
fn mount_all(mounts: &[Mount], root: BorrowedFd<'_>, sources: Vec<Option<OwnedFd>>) -> Step<()> {
    let mut mounts: Vec<_> = mounts.iter().zip(sources).collect();
    mounts.sort_by_key(|(mount, _)| mount.target.components().count());
    for (mount, source) in mounts {
        match (&mount.kind, source) {
            (MountKind::Bind { source: path, .. }, Some(source)) => {
                let bind = || {
                    let target = place_for(root, &mount.target, &source)?;
                    refuse_proc(target.as_fd(), &mount.target, path)?;
                    attach(source.as_fd(), target.as_fd())
                };
                bind().map_err(Failure::mount(path.display(), mount.target.display()))?;
            }
            (MountKind::Tmpfs(options), _) => {
                mount_tmpfs(root, mount, options).map_err(Failure::mount("tmpfs", mount.target.display()))?;
            }
            (MountKind::Layers { .. }, Some(source)) => {
                let attached = place_for(root, &mount.target, &source)
                    .and_then(|target| attach(source.as_fd(), target.as_fd()));
                attached.map_err(Failure::mount("image", mount.target.display()))?;
            }
            (MountKind::Bind { .. } | MountKind::Layers { .. }, None) => {}
        }
    }
    Ok(())
}

fn place_for(root: BorrowedFd<'_>, target: &Path, source: &OwnedFd) -> io::Result<OwnedFd> {
    let status = rustix::fs::fstat(source)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        inside::make_directory(root, target)
    } else {
        inside::make_file(root, target)
    }
}

/// Nothing is mounted into /proc, wherever a link may lead, but /proc itself and the files that tools like lxcfs
/// replace: what the kernel guards there would be pretended.
fn refuse_proc(found: BorrowedFd<'_>, target: &Path, source: &Path) -> io::Result<()> {
    const PROC: u64 = 0x9fa0;
    const REPLACEABLE: [&str; 8] =
        ["cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo"];
    if rustix::fs::fstatfs(found)?.f_type as u64 != PROC {
        return Ok(());
    }
    let allowed = match target.strip_prefix("/proc") {
        Ok(below) if below.as_os_str().is_empty() => source.starts_with("/proc"),
        Ok(below) => REPLACEABLE.iter().any(|name| below == Path::new(name)),
        Err(_) => false,
    };
    if allowed { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}

fn mount_tmpfs(root: BorrowedFd<'_>, mount: &Mount, options: &TmpfsOptions) -> io::Result<()> {
    // A directory of the image passes its mode on; its content is hidden.
    let mode = match inside::open(root, &mount.target, OFlags::PATH) {
        Ok(existing) => Some(format!("{:o}", rustix::fs::fstat(&existing)?.st_mode & 0o7777)),
        Err(_) => None,
    };
    let target = inside::make_directory(root, &mount.target)?;
    let mut data: Vec<(&str, &str)> =
        options.data.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    if let Some(mode) = &mode
        && !data.iter().any(|(name, _)| *name == "mode")
    {
        data.push(("mode", mode));
    }
    let mut attributes = MountAttrFlags::empty();
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, options.no_exec);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, options.no_suid);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, options.no_dev);
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, options.readonly || mount.readonly);
    attach(filesystems::make("tmpfs", "tmpfs", &data, attributes)?.as_fd(), target.as_fd())
}

/// Opens what a list of paths names. Absent ones need no hiding.
fn open_listed(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    match inside::open(root, &PathBuf::from(path), OFlags::PATH) {
        Err(error) if matches!(number(&error), libc::ENOENT | libc::ENOTDIR) => Ok(None),
        result => result.map(Some),
    }
}

fn make_readonly(root: BorrowedFd<'_>, path: &str) -> Step<()> {
    let cover = || {
        let Some(found) = open_listed(root, path)? else { return Ok(()) };
        let copy = filesystems::copy(found.as_fd(), true)?;
        filesystems::set(copy.as_fd(), sys::mount::READ_ONLY, true)?;
        attach(copy.as_fd(), found.as_fd())
    };
    cover().map_err(Failure::mount("readonly path", path))
}

fn mask(root: BorrowedFd<'_>, path: &str, null: BorrowedFd<'_>) -> Step<()> {
    let cover = || {
        let Some(found) = open_listed(root, path)? else { return Ok(()) };
        let status = rustix::fs::fstat(&found)?;
        let cover = if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            filesystems::make("tmpfs", "tmpfs", &[], inert() | MountAttrFlags::MOUNT_ATTR_RDONLY)?
        } else {
            filesystems::copy(null, false)?
        };
        attach(cover.as_fd(), found.as_fd())
    };
    cover().map_err(Failure::mount("masked path", path))
}
