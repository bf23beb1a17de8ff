//! The one thing about network links that a launch needs: loopback in a namespace just made.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::check;

/// Sets `lo` of this network namespace up.
pub fn bring_loopback_up() -> io::Result<()> {
    // SAFETY: socket takes no pointers.
    let socket =
        check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into())?;
    // SAFETY: the call returned a fresh descriptor that nobody else knows of.
    let socket = unsafe { OwnedFd::from_raw_fd(socket as i32) };
    // SAFETY: ifreq is plain old data for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, whose name is NUL-terminated and which outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())?;
    Ok(())
}
