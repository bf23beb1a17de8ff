//! Entering and leaving namespaces.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::check;

/// Enters the namespaces named by `kinds` (`CLONE_NEW*` bits) of a process (given its pidfd), or the one
/// that a file of `/proc/PID/ns` stands for. A PID namespace takes effect for children born afterwards.
pub fn join(namespace: BorrowedFd<'_>, kinds: u64) -> io::Result<()> {
    // SAFETY: setns takes no pointers.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kinds as libc::c_int) }.into())?;
    Ok(())
}

/// Gives this process new namespaces of these kinds (`CLONE_NEW*` bits only).
pub fn unshare(kinds: u64) -> io::Result<()> {
    if kinds & !crate::process::NAMESPACE_FLAGS != 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: unshare takes no pointers, and the check above keeps out CLONE_FILES and CLONE_VM, which
    // would change what other code of this process relies upon.
    check(unsafe { libc::unshare(kinds as libc::c_int) }.into())?;
    Ok(())
}
