//! Paths in a root file system that is hostile.
//!
//! Every link in it was put there by somebody who would like us to leave it, and with a volume that two containers share
//! it may change under our hands. So a path is resolved by the kernel, in one call, confined to the root, and what it led
//! to is then only used through its descriptor.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What `path` leads to, with links followed as a process in `root` would follow them.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
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
pub(super) fn make_directory(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    match open(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let mut reached = PathBuf::from("/");
    let mut directory = open(root, &reached, OFlags::PATH | OFlags::DIRECTORY)?;
    for component in plain_components(path)? {
        reached.push(component);
        directory = match open(root, &reached, OFlags::PATH | OFlags::DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A link that leads nowhere makes this fail with EEXIST, as it should.
                rustix::fs::mkdirat(&directory, component, Mode::from_raw_mode(0o755))?;
                open(
                    directory_fd(&directory),
                    Path::new(component),
                    OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW,
                )?
            }
            result => result?,
        };
    }
    Ok(directory)
}

/// The file at `path`, made empty when it is missing: a place to mount a file at.
pub(super) fn make_file(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    match open(root, path, OFlags::PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let (directory, name) = make_parent(root, path)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    drop(rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o644))?);
    open(directory_fd(&directory), Path::new(name), OFlags::PATH | OFlags::NOFOLLOW)
}

/// The directory that `path` is in, made when it is missing, and the last part of the path.
pub(super) fn make_parent<'a>(
    root: BorrowedFd<'_>,
    path: &'a Path,
) -> io::Result<(OwnedFd, &'a std::ffi::OsStr)> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let name = path.file_name().ok_or_else(invalid)?;
    let parent = path.parent().ok_or_else(invalid)?;
    Ok((make_directory(root, parent)?, name))
}

fn directory_fd(directory: &OwnedFd) -> BorrowedFd<'_> {
    use std::os::fd::AsFd as _;
    directory.as_fd()
}

/// The parts of a path that is to be made. `..` is refused: what it means depends on links that do not exist yet.
fn plain_components(path: &Path) -> io::Result<Vec<&std::ffi::OsStr>> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(Ok(name)),
            Component::RootDir | Component::CurDir => None,
            Component::ParentDir | Component::Prefix(_) => {
                Some(Err(io::Error::from_raw_os_error(libc::EINVAL)))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
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
    fn a_dangling_link_is_not_created_through() {
        let (directory, root) = root();
        symlink("/nowhere", directory.path().join("link")).unwrap();
        let error = make_directory(root.as_fd(), Path::new("link/x")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        assert_eq!(
            make_file(root.as_fd(), Path::new("link")).unwrap_err().raw_os_error(),
            Some(libc::EEXIST)
        );
        assert!(!directory.path().join("nowhere").exists());
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
