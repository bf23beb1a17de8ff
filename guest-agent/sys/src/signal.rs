//! Signals as data: masks, dispositions, and a descriptor to read them from.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::check;

/// The highest signal number.
pub const LAST: i32 = 64;

fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the whole set.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn change_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialised and outlives the call; a null old-set pointer is allowed (sigprocmask(2)).
    check(unsafe { libc::sigprocmask(how, set, ptr::null_mut()) }.into())?;
    Ok(())
}

/// Holds back every signal that can be held back.
pub fn block_all() -> io::Result<()> {
    change_mask(libc::SIG_BLOCK, &full_set())
}

/// Gives every signal its default meaning and holds back none, as a fresh program expects it.
pub fn reset() -> io::Result<()> {
    for signal in 1..=LAST {
        // SAFETY: SIG_DFL runs none of our code. Numbers that cannot be set (SIGKILL, SIGSTOP, the two that
        // the C library keeps for itself) are refused with an error, which is what we want of them.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    change_mask(libc::SIG_UNBLOCK, &full_set())
}

/// A signalfd of every signal; block them first.
#[derive(Debug)]
pub struct Descriptor(OwnedFd);

impl Descriptor {
    /// Opens it, close-on-exec and non-blocking.
    pub fn open() -> io::Result<Descriptor> {
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the set is initialised and outlives the call.
        let fd = check(unsafe { libc::signalfd(-1, &full_set(), flags) }.into())?;
        // SAFETY: signalfd returned a fresh descriptor that nobody else knows of.
        Ok(Descriptor(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// The next pending signal, if there is one.
    pub fn next(&self) -> io::Result<Option<i32>> {
        let mut record = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the kernel writes at most `size` bytes to a buffer of that size.
        let length = unsafe { libc::read(self.0.as_raw_fd(), record.as_mut_ptr().cast(), size) };
        match check(length as libc::c_long) {
            // SAFETY: a read that succeeds yields whole records (signalfd(2)), so this one is initialised.
            Ok(_) => Ok(Some(unsafe { record.assume_init() }.ssi_signo as i32)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits for any signal that is blocked and takes it.
pub fn wait() -> io::Result<i32> {
    let set = full_set();
    loop {
        // SAFETY: the set is initialised and outlives the call; a null info pointer is allowed.
        let signal = unsafe { libc::sigwaitinfo(&raw const set, ptr::null_mut()) };
        if signal > 0 {
            return Ok(signal);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Sends a signal to one process (positive), or to a process group (negative).
pub fn send(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes no pointers.
    check(unsafe { libc::kill(pid, signal) }.into())?;
    Ok(())
}

/// Sends a signal to the process that `pidfd` names, whatever its number: real-time signals too, and 0 to ask
/// whether it lives.
pub fn send_to(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null info pointer makes the call act as kill(2) does.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    })?;
    Ok(())
}
