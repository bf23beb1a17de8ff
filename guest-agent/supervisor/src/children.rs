//! The supervisor's children: starting them, and what is kept for each.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use sys::process::{CloneOptions, Cloned};

use crate::wire::{ExitStatus, FIRST_PASSED_FD, PLAN_FD, Role, SYNC_FD};

pub(crate) struct Children {
    /// This program, as containers may see it: read-only.
    program: OwnedFd,
    own_pid_namespace: OwnedFd,
    /// Whether children would be born in a container's PID namespace.
    away: bool,
    by_key: HashMap<String, Child>,
    keys: HashMap<i32, String>,
}

struct Child {
    pid: i32,
    pidfd: OwnedFd,
    exit: Option<ExitStatus>,
    held: Vec<(Role, OwnedFd)>,
}

/// What the engine asked for; the descriptors come in the order of [`crate::wire::Call::Spawn`].
pub(crate) struct Wanted {
    pub(crate) key: String,
    pub(crate) namespaces: u64,
    pub(crate) cgroup: bool,
    pub(crate) pid_namespace: bool,
    pub(crate) passed: usize,
    pub(crate) held: Vec<Role>,
}

/// Key, number, exit status, roles, and the descriptors: the pidfd first, then one per role.
pub(crate) type Listed = (String, i32, Option<ExitStatus>, Vec<Role>, Vec<OwnedFd>);

impl Children {
    pub(crate) fn new() -> io::Result<Children> {
        let own_pid_namespace =
            rustix::fs::open("/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Children {
            program: open_program()?,
            own_pid_namespace,
            away: false,
            by_key: HashMap::new(),
            keys: HashMap::new(),
        })
    }

    pub(crate) fn spawn(&mut self, wanted: Wanted, fds: Vec<OwnedFd>) -> io::Result<(i32, OwnedFd)> {
        let expected = 5
            + usize::from(wanted.cgroup)
            + usize::from(wanted.pid_namespace)
            + wanted.passed
            + wanted.held.len();
        if fds.len() != expected {
            return Err(errno(libc::EBADMSG));
        }
        if self.by_key.contains_key(&wanted.key) {
            return Err(errno(libc::EALREADY));
        }
        let mut fds = fds.into_iter();
        let given: Vec<OwnedFd> = fds.by_ref().take(5).collect();
        let cgroup = if wanted.cgroup { fds.next() } else { None };
        let pid_namespace = if wanted.pid_namespace { fds.next() } else { None };
        let passed: Vec<OwnedFd> = fds.by_ref().take(wanted.passed).collect();
        let held = wanted.held.into_iter().zip(fds).collect();

        self.come_home()?;
        if let Some(namespace) = &pid_namespace {
            sys::namespace::join(namespace.as_fd(), libc::CLONE_NEWPID as u64)?;
            self.away = true;
        }
        let options =
            CloneOptions { namespaces: wanted.namespaces, cgroup: cgroup.as_ref().map(AsFd::as_fd) };
        let cloned = clone(options);
        if let Ok(Cloned::Child) = cloned {
            // What could be said about a failure, the engine sees: its socket ends without a word.
            let _ = become_child(&self.program, &given, &passed);
            sys::process::exit_now(127);
        }
        // A failure is found out again, and reported, by the next spawn.
        let _ = self.come_home();
        let Cloned::Parent { pid, pidfd } = cloned? else { return Err(errno(libc::EIO)) };
        let copy = pidfd.try_clone()?;
        self.keys.insert(pid, wanted.key.clone());
        self.by_key.insert(wanted.key, Child { pid, pidfd, exit: None, held });
        Ok((pid, copy))
    }

    /// Makes sure that the next child is born in this process's own PID namespace.
    fn come_home(&mut self) -> io::Result<()> {
        if self.away {
            sys::namespace::join(self.own_pid_namespace.as_fd(), libc::CLONE_NEWPID as u64)?;
            self.away = false;
        }
        Ok(())
    }

    /// Records how a child ended and says its key; `None` when it is nobody's child here.
    pub(crate) fn ended(&mut self, pid: i32, status: ExitStatus) -> Option<String> {
        let key = self.keys.remove(&pid)?;
        if let Some(child) = self.by_key.get_mut(&key) {
            child.exit = Some(status);
        }
        Some(key)
    }

    pub(crate) fn list(&self) -> io::Result<Vec<Listed>> {
        self.by_key
            .iter()
            .map(|(key, child)| {
                let roles = child.held.iter().map(|(role, _)| *role).collect();
                let fds = [child.pidfd.try_clone()]
                    .into_iter()
                    .chain(child.held.iter().map(|(_, fd)| fd.try_clone()))
                    .collect::<io::Result<_>>()?;
                Ok((key.clone(), child.pid, child.exit, roles, fds))
            })
            .collect()
    }

    pub(crate) fn hold(&mut self, key: &str, roles: Vec<Role>, fds: Vec<OwnedFd>) -> io::Result<()> {
        let child = self.by_key.get_mut(key).ok_or_else(|| errno(libc::ENOENT))?;
        child.held.extend(roles.into_iter().zip(fds));
        Ok(())
    }

    pub(crate) fn unhold(&mut self, key: &str, role: Role) -> io::Result<()> {
        let child = self.by_key.get_mut(key).ok_or_else(|| errno(libc::ENOENT))?;
        child.held.retain(|(held, _)| *held != role);
        Ok(())
    }

    pub(crate) fn release(&mut self, key: &str) -> io::Result<()> {
        let child = self.by_key.get(key).ok_or_else(|| errno(libc::ENOENT))?;
        if child.exit.is_none() {
            return Err(errno(libc::EBUSY));
        }
        self.by_key.remove(key);
        Ok(())
    }

    /// Kills a child, if it lives, and forgets it at once; its end is an orphan's.
    pub(crate) fn discard(&mut self, key: &str) -> io::Result<()> {
        let child = self.by_key.remove(key).ok_or_else(|| errno(libc::ENOENT))?;
        if child.exit.is_none() {
            self.keys.remove(&child.pid);
            sys::signal::send_to(child.pidfd.as_fd(), libc::SIGKILL)?;
        }
        Ok(())
    }

    pub(crate) fn kill_all(&self) {
        for child in self.by_key.values().filter(|child| child.exit.is_none()) {
            if let Err(error) = sys::signal::send_to(child.pidfd.as_fd(), libc::SIGKILL) {
                tracing::warn!(pid = child.pid, %error, "a child cannot be killed");
            }
        }
    }

    pub(crate) fn all_ended(&self) -> bool {
        self.keys.is_empty()
    }
}

/// Clones, and tries again when the kernel says EEXIST. clone3 has no such error of its own here, but making new namespaces
/// on a busy machine was seen to fail so once, and to work the next time; the cause is not known.
fn clone(options: CloneOptions<'_>) -> io::Result<Cloned> {
    for _ in 0..3 {
        match sys::process::clone(options) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                tracing::warn!(%error, "a process could not be cloned; trying again");
            }
            result => return result,
        }
    }
    sys::process::clone(options)
}

/// This program through a read-only mount of its own: a container that gets hold of `/proc/PID/exe` of
/// container-init cannot write to the file that the next container would be started from.
fn open_program() -> io::Result<OwnedFd> {
    let program = rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let read_only =
        rustix::mount::open_tree(&program, "", flags).map_err(io::Error::from).and_then(|mount| {
            let attributes =
                sys::mount::Attributes { set: sys::mount::READ_ONLY, ..sys::mount::Attributes::default() };
            sys::mount::set_attributes(mount.as_fd(), attributes, false)?;
            Ok(mount)
        });
    match read_only {
        Ok(mount) => Ok(mount),
        Err(error) => {
            tracing::warn!(%error, "this program cannot be shown read-only to containers");
            Ok(program)
        }
    }
}

/// Runs in the child: puts the descriptors where the program expects them, and executes it.
fn become_child(program: &OwnedFd, given: &[OwnedFd], passed: &[OwnedFd]) -> io::Result<Infallible> {
    sys::signal::reset()?;
    let [plan, sync, stdin, stdout, stderr] = given else { return Err(errno(libc::EBADMSG)) };
    let end = FIRST_PASSED_FD + passed.len() as i32;
    // First out of the way of the numbers that are wanted, then to their places.
    let aside = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, end);
    let program = aside(program)?;
    let streams = [aside(stdin)?, aside(stdout)?, aside(stderr)?];
    let (plan, sync) = (aside(plan)?, aside(sync)?);
    let passed = passed.iter().map(aside).collect::<Result<Vec<_>, _>>()?;
    for (number, stream) in (0..).zip(&streams) {
        sys::process::duplicate_to(stream.as_fd(), number)?;
    }
    sys::process::duplicate_to(plan.as_fd(), PLAN_FD)?;
    sys::process::duplicate_to(sync.as_fd(), SYNC_FD)?;
    for (number, fd) in (FIRST_PASSED_FD..).zip(&passed) {
        sys::process::duplicate_to(fd.as_fd(), number)?;
    }
    sys::process::cloexec_from(end)?;
    debug_assert!(program.as_raw_fd() >= end);
    let arguments = [CString::from(c"guest-agent"), CString::from(c"container-init")];
    sys::process::execute_fd(program.as_fd(), &arguments, &[])
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}
