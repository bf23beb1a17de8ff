//! Paths in a root file system that is hostile.
//!
//! Every link in it was put there by somebody who would like us to leave it, and with a volume that two containers share
//! it may change under our hands. So a path is resolved by the kernel, in one call, confined to the root, and what it led
//! to is then only used through its descriptor.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What `path` leads to, with links followed as a process in `root` would follow them.
pub(crate) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    resolve(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// What is at `path`, a relative one, if no part of it is a link and all of it is on one mount.
pub(super) fn open_exactly(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve_flags = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    resolve(root, Path::new(path), flags, resolve_flags)
}

/// What `path` leads to, if it stays below `root` all the way.
pub(super) fn open_beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    resolve(root, path, flags, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    loop {
        // A rename elsewhere on the machine, while `..` was looked up, makes the kernel ask for another try.
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => continue,
            result => return Ok(result?),
        }
    }
}

/// The directory at `path`, which is made, with those above it, when it is missing.
pub(crate) fn make_directory(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    match open(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(root, path, Wanted::Directory),
        result => result,
    }
}

/// The file at `path`, made empty when it is missing: a place to mount a file at.
pub(super) fn make_file(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    match open(root, path, OFlags::PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(root, path, Wanted::File),
        result => result,
    }
}

/// The directory that `path` is in, made when it is missing, and the last part of the path.
pub(super) fn make_parent<'a>(root: BorrowedFd<'_>, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
    let name = path.file_name().ok_or_else(|| errno(libc::EINVAL))?;
    let parent = path.parent().ok_or_else(|| errno(libc::EINVAL))?;
    Ok((make_directory(root, parent)?, name))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Directory,
    File,
}

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// Walks `path` part by part and makes what is missing, also where a link leads to nothing: images have an
/// `/etc/resolv.conf` that points into a `/run` which is not there yet. The kernel cannot make while it resolves, so the
/// links are read here; `..` goes back to a directory that was passed, and never above the root.
fn make(root: BorrowedFd<'_>, path: &Path, wanted: Wanted) -> io::Result<OwnedFd> {
    let here = OFlags::PATH | OFlags::NOFOLLOW;
    let mut passed = vec![open(root, Path::new("/"), here)?];
    let mut ahead = parts(path);
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        let Some(directory) = passed.last() else { return Err(errno(libc::EINVAL)) };
        let name = match &part {
            Part::Up => {
                if passed.len() > 1 {
                    passed.pop();
                }
                continue;
            }
            Part::Name(name) => name,
        };
        let last = ahead.is_empty();
        let found = match open(directory.as_fd(), Path::new(name), here) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if last && wanted == Wanted::File {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    drop(rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o644))?);
                } else {
                    rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o755))?;
                }
                open(directory.as_fd(), Path::new(name), here)?
            }
            result => result?,
        };
        match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(errno(libc::ELOOP));
                }
                let target = rustix::fs::readlinkat(&found, "", Vec::new())?;
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                if target.is_absolute() {
                    passed.truncate(1);
                }
                for part in parts(target).into_iter().rev() {
                    ahead.push_front(part);
                }
            }
            FileType::Directory => passed.push(found),
            _ if last && wanted == Wanted::File => return Ok(found),
            _ => return Err(errno(libc::ENOTDIR)),
        }
    }
    passed.pop().ok_or_else(|| errno(libc::EINVAL))
}

/// A part of a path that is not walked yet.
enum Part {
    Up,
    Name(OsString),
}

fn parts(path: &Path) -> VecDeque<Part> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(Part::Name(name.to_owned())),
            Component::ParentDir => Some(Part::Up),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        let root =
            rustix::fs::open(directory.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (directory, root)
    }

    #[test]
    fn links_to_the_outside_lead_to_the_root() {
        let (directory, root) = root();
        symlink("/../../../..", directory.path().join("out")).unwrap();
        make_directory(root.as_fd(), Path::new("/out/made/here")).unwrap();
        assert!(directory.path().join("made/here").is_dir());
    }

    #[test]
    fn what_a_dangling_link_leads_to_is_made_inside() {
        let (directory, root) = root();
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        symlink("../../../run/resolve/conf", directory.path().join("etc/conf")).unwrap();
        make_file(root.as_fd(), Path::new("/etc/conf")).unwrap();
        assert!(directory.path().join("run/resolve/conf").is_file());
        symlink("/var/real", directory.path().join("link")).unwrap();
        make_directory(root.as_fd(), Path::new("link/../real/x")).unwrap();
        assert!(directory.path().join("var/real/x").is_dir());
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let (directory, root) = root();
        symlink("two/x", directory.path().join("one")).unwrap();
        symlink("one/x", directory.path().join("two")).unwrap();
        let error = make_directory(root.as_fd(), Path::new("one")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn a_file_is_made_with_its_directories_and_once() {
        let (directory, root) = root();
        make_file(root.as_fd(), Path::new("/etc/hosts")).unwrap();
        std::fs::write(directory.path().join("etc/hosts"), "kept").unwrap();
        make_file(root.as_fd(), Path::new("/etc/hosts")).unwrap();
        assert_eq!(std::fs::read_to_string(directory.path().join("etc/hosts")).unwrap(), "kept");
    }

    #[test]
    fn beneath_refuses_what_leads_out() {
        let (directory, root) = root();
        symlink("/etc", directory.path().join("out")).unwrap();
        let error = open_beneath(root.as_fd(), Path::new("out"), OFlags::PATH).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
    }
}
