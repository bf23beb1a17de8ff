//! Making, replacing and reaping processes.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::check;

/// What a new process gets that differs from its parent: the flags of clone3 that make sense without shared memory.
#[derive(Debug, Default, Clone, Copy)]
pub struct CloneOptions<'a> {
    /// `CLONE_NEW*` bits only; anything else is refused.
    pub namespaces: u64,
    /// A cgroup v2 directory that the process is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Which side of [`clone`] this is.
#[derive(Debug)]
pub enum Cloned {
    /// The old process, with the new one's number and a descriptor for it.
    Parent {
        /// The number, as the caller's PID namespace sees it.
        pid: i32,
        /// A descriptor that keeps naming this very process.
        pidfd: OwnedFd,
    },
    /// The new process.
    Child,
}

/// Every `CLONE_NEW*` bit that clone3 takes.
pub const NAMESPACE_FLAGS: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u32 as u64;

/// Starts a copy of the calling process, which must have one thread only.
///
/// Refused with `EBUSY` when the process has more than one thread: the copy would run with locks that
/// no thread is left to release.
pub fn clone(options: CloneOptions<'_>) -> io::Result<Cloned> {
    if options.namespaces & !NAMESPACE_FLAGS != 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    if !single_threaded()? {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: RawFd = -1;
    let mut arguments = CloneArguments {
        flags: options.namespaces | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArguments::default()
    };
    if let Some(cgroup) = options.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: neither CLONE_VM nor CLONE_VFORK is set, so the child gets a copy of this address space and
    // returns on a copy of this stack; the process has one thread, so no lock is held by a thread that the
    // child lacks. `pidfd` outlives the call, and the kernel writes it before the parent returns.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArguments>()) })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: CLONE_PIDFD stored a fresh descriptor there that nobody else knows of.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: pid as i32, pidfd })
}

/// [`clone`] into the same namespaces and cgroup.
pub fn fork() -> io::Result<Cloned> {
    clone(CloneOptions::default())
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` up to the field that version 2 of it ends with (Linux 5.7).
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Whether this process has one thread. The kernel counts two links for `/proc/self/task` and one more per thread.
fn single_threaded() -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata("/proc/self/task") {
        Ok(tasks) => Ok(tasks.nlink() <= 3),
        // Without /proc (a container whose own /proc is masked) the caller vouches for it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Replaces this program by the one at `path`. Returns only to say why it could not.
pub fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Result<Infallible> {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer, and their strings and `path` are NUL-terminated and
    // borrowed for the whole call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// Replaces this program by the open file `program`.
pub fn execute_fd(
    program: BorrowedFd<'_>,
    arguments: &[CString],
    environment: &[CString],
) -> io::Result<Infallible> {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and their strings are borrowed for the whole call; the
    // empty path is a static string.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(io::Error::last_os_error())
}

/// Ends the process at once: no destructors, no exit handlers, no flushing of what was copied from a parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes no pointers and runs no code of this process.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on. What owns one of them must not be dropped afterwards: for a
/// process that is about to execute a program or to leave by [`exit_now`].
pub fn close_from(first: RawFd) -> io::Result<()> {
    close_range(first, 0)
}

/// Marks every descriptor from `first` on to be closed by the next execve.
pub fn cloexec_from(first: RawFd) -> io::Result<()> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC as libc::c_uint)
}

fn close_range(first: RawFd, flags: libc::c_uint) -> io::Result<()> {
    if first < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the call takes no pointers.
    check(unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, flags) })?;
    Ok(())
}

/// Takes ownership of a descriptor that this process inherited under a number agreed upon with its parent.
///
/// Refused with `EBADF` when nothing is open there, or when it is one of the three standard streams.
/// Ask once per number and before anything else could have opened a file under it: at the start of `main`.
pub fn adopt_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: fcntl(F_SETFD) takes no pointers; it fails when nothing is open under this number.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: the descriptor is open (checked above) and was put there by the parent for this caller, so no
    // other owner exists in this program.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Puts a copy of `from` under the number `to`, which survives execve.
pub fn duplicate_to(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    // SAFETY: dup3 takes no pointers. With equal numbers dup2 leaves the flags alone, hence the fcntl.
    let result = unsafe {
        if from.as_raw_fd() == to {
            libc::fcntl(to, libc::F_SETFD, 0)
        } else {
            libc::dup3(from.as_raw_fd(), to, 0)
        }
    };
    check(result.into())?;
    Ok(())
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It returned this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// Takes the status of one child that has ended, if any has. `None` when none has, or when there is no child.
pub fn reap() -> io::Result<Option<(i32, Ending)>> {
    reap_with(libc::WNOHANG)
}

/// Waits for a child to end and takes its status; `None` when there is no child left.
pub fn reap_blocking() -> io::Result<Option<(i32, Ending)>> {
    reap_with(0)
}

fn reap_with(flags: libc::c_int) -> io::Result<Option<(i32, Ending)>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call; the usage pointer may be null (wait4(2)).
        let pid = unsafe { libc::wait4(-1, &raw mut status, flags | libc::__WALL, ptr::null_mut()) };
        if pid == 0 {
            return Ok(None);
        }
        if pid < 0 {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::ECHILD) => return Ok(None),
                _ => return Err(error),
            }
        }
        if libc::WIFEXITED(status) {
            return Ok(Some((pid, Ending::Code(libc::WEXITSTATUS(status)))));
        }
        if libc::WIFSIGNALED(status) {
            return Ok(Some((pid, Ending::Signal(libc::WTERMSIG(status)))));
        }
    }
}

fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the options used in this file take plain numbers, no pointers.
    check(unsafe { libc::prctl(option, argument, 0, 0, 0) }.into())?;
    Ok(())
}

/// Whether other processes may look into this one (`/proc/PID/mem`, ptrace, core dumps).
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, dumpable.into())
}

/// Makes this process the new parent of every orphan below it.
pub fn set_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// The signal this process gets when its parent dies.
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong)
}

/// From now on no execve gives more rights than this process has.
pub fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// The name that `ps -o comm` shows, cut to 15 bytes.
pub fn set_name(name: &CStr) -> io::Result<()> {
    // SAFETY: PR_SET_NAME reads at most 16 bytes of a NUL-terminated string that outlives the call.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }.into())?;
    Ok(())
}

/// Sets one of this process's limits, named by its number (`RLIMIT_*`). `u64::MAX` is no limit.
pub fn set_resource_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` outlives the call; a null old-limit pointer is allowed (prlimit(2)).
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, ptr::null_mut::<libc::rlimit64>())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_cloned() {
        // The test harness itself runs threads.
        let error = std::thread::spawn(fork).join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    }

    #[test]
    fn flags_that_share_memory_are_refused() {
        let options = CloneOptions { namespaces: libc::CLONE_VM as u64, cgroup: None };
        assert_eq!(clone(options).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn a_number_without_a_file_is_not_adopted() {
        assert_eq!(adopt_descriptor(99_999).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(adopt_descriptor(1).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
