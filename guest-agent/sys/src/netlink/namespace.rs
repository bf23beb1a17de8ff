//! Network namespaces: a fresh one, and doing something inside one.
//!
//! A namespace is a property of a thread, and the engine's threads must stay in theirs. So the work is done
//! on a thread made for it, which ends with it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::thread;

/// Makes a network namespace, runs `inside` on a thread that is in it, and returns both.
pub fn fresh<T: Send>(inside: impl FnOnce() -> io::Result<T> + Send) -> io::Result<(OwnedFd, T)> {
    on_a_thread(|| {
        leave_for_a_fresh_one()?;
        Ok((current()?, inside()?))
    })
}

/// Moves the calling thread alone into a network namespace that did not exist before. For threads made for it.
pub fn leave_for_a_fresh_one() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET alone changes this thread's namespace and nothing of memory or descriptors.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Moves the calling thread alone into a network namespace. For threads made for it.
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: setns(2) takes no pointers; the kernel checks that the descriptor is a network namespace.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Runs `inside` on a thread that is in `namespace`.
pub fn within<T: Send>(
    namespace: BorrowedFd<'_>,
    inside: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    on_a_thread(|| {
        enter(namespace)?;
        inside()
    })
}

/// The calling thread's network namespace.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".to_owned())
            .stack_size(256 * 1024)
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the namespace thread panicked")))
    })
}
