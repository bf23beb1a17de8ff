//! Sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::check;

/// How much of what was sent the other end has not taken yet (unix(7), `SIOCOUTQ`). For a unix socket that
/// is the memory it waits in, for a TCP socket the bytes without an acknowledgement.
pub fn unsent(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has TIOCOUTQ's number, writes one int that outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) }.into())?;
    Ok(bytes.max(0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_the_other_end_has_read_is_sent() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        assert_eq!(unsent(here.as_fd()).unwrap(), 0);
        here.write_all(b"hello").unwrap();
        assert!(unsent(here.as_fd()).unwrap() >= 5);
        there.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(unsent(here.as_fd()).unwrap(), 0);
    }
}
