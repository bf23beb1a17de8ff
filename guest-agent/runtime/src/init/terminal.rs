//! The program's terminal: allocated in the container's own devpts, its master handed to the engine.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;

use super::wire::{self, Word};
use super::{Step, inside};
use crate::error::Failure;

/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS: u64 = 0x1cd1;

/// Opens a terminal in `terminals`, a devpts mount of ours, and waits until the engine has its master.
pub(super) fn open(terminals: BorrowedFd<'_>, size: (u16, u16), sync: BorrowedFd<'_>) -> Step<OwnedFd> {
    let (master, peer) = allocate(terminals, size).map_err(Failure::step("opening a terminal"))?;
    wire::say(sync, &Word::Terminal, Some(master.as_fd()))
        .map_err(Failure::step("handing over the terminal"))?;
    // When the engine dies meanwhile, nobody would ever hold the master.
    match rustix::io::read(sync, &mut [0; 1]) {
        Ok(1) => Ok(peer),
        Ok(_) => Err(Failure::Died),
        Err(error) => Err(Failure::step("handing over the terminal")(error.into())),
    }
}

/// The same in a running container, whose /dev is not to be trusted.
pub(super) fn open_in(root: BorrowedFd<'_>, size: (u16, u16), sync: BorrowedFd<'_>) -> Step<OwnedFd> {
    let terminals = inside::open(root, Path::new("/dev/pts"), OFlags::PATH | OFlags::DIRECTORY)
        .map_err(Failure::step("opening /dev/pts"))?;
    let found =
        rustix::fs::fstatfs(&terminals).map_err(|error| Failure::step("opening /dev/pts")(error.into()))?;
    if found.f_type as u64 != DEVPTS {
        return Err(Failure::step("opening /dev/pts")(io::Error::from_raw_os_error(libc::ENODEV)));
    }
    open(terminals.as_fd(), size, sync)
}

fn allocate(terminals: BorrowedFd<'_>, (columns, rows): (u16, u16)) -> io::Result<(OwnedFd, OwnedFd)> {
    // On a devpts nobody but the kernel makes files, so this is the multiplexer.
    let master = inside::open_exactly(terminals, "ptmx", OFlags::RDWR | OFlags::NOCTTY)?;
    sys::terminal::unlock(master.as_fd())?;
    let peer = sys::terminal::peer(master.as_fd())?;
    if (columns, rows) != (0, 0) {
        sys::terminal::set_size(master.as_fd(), columns, rows)?;
    }
    Ok((master, peer))
}

/// Makes it the standard streams and the session's terminal.
pub(super) fn take(terminal: &OwnedFd) -> io::Result<()> {
    for number in 0..3 {
        sys::process::duplicate_to(terminal.as_fd(), number)?;
    }
    sys::terminal::set_controlling(terminal.as_fd())
}
