//! The directory that a layer is unpacked into, as file descriptors: no name can lead out of it.
//!
//! Parents are opened by `openat2` with `RESOLVE_IN_ROOT`, so a link of the layer, absolute or with `..`, leads
//! within the layer, as it will in a container. The last part of a name is never followed.
//! Opened directories are kept, since archives list a directory's files together.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Far below the usual limit of 1024 descriptors, times the layers of a few pulls.
const MAX_OPEN: usize = 64;

pub(super) struct Tree {
    root: Rc<OwnedFd>,
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
}

/// `openat2` answers `EAGAIN` when something on the system was renamed meanwhile.
pub(super) fn again<T>(mut open: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..1000 {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            outcome => return outcome,
        }
    }
    Err(Errno::AGAIN)
}

/// A name for the system.
pub(super) fn os(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// The directory part and the last part of a clean path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// The path without `.`, `..` and doubled slashes; `None` if it leads above its root.
pub(super) fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let mut clean = Vec::with_capacity(path.len());
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if clean.is_empty() => return None,
            b".." => clean.truncate(split(&clean).0.len()),
            part => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(part);
            }
        }
    }
    Some(clean)
}

impl Tree {
    pub(super) fn open(root: &Path) -> Result<Tree, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(Tree { root: Rc::new(rustix::fs::open(root, flags, Mode::empty())?), open: HashMap::new() })
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The directory at the clean path `path`; what is missing of it is made, as archives may leave it out.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some(open) = self.open.get(path) {
            return Ok(Rc::clone(open));
        }
        let opened = match self.open_directory(path) {
            Err(Errno::NOENT) => {
                let (parent, name) = split(path);
                let parent = self.directory(parent)?;
                rustix::fs::mkdirat(&*parent, os(name), Mode::from_raw_mode(0o755))?;
                self.open_directory(path)
            }
            outcome => outcome,
        }?;
        if self.open.len() >= MAX_OPEN {
            self.open.clear();
        }
        let opened = Rc::new(opened);
        self.open.insert(path.to_vec(), Rc::clone(&opened));
        Ok(opened)
    }

    /// The parent directory of the clean path `path`, and the last part of it.
    pub(super) fn parent<'a>(&mut self, path: &'a [u8]) -> Result<(Rc<OwnedFd>, &'a [u8]), Errno> {
        let (parent, name) = split(path);
        Ok((self.directory(parent)?, name))
    }

    /// Forgets what was opened: a directory or link on the way was replaced.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        again(|| rustix::fs::openat2(&*self.root, os(path), flags, Mode::empty(), resolve))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_never_lead_above_the_root() {
        assert_eq!(clean(b"./a//b/./c/").unwrap(), b"a/b/c");
        assert_eq!(clean(b"/a/../b").unwrap(), b"b");
        assert_eq!(clean(b"./").unwrap(), b"");
        assert!(clean(b"../a").is_none());
        assert!(clean(b"a/../../b").is_none());
    }

    #[test]
    fn absolute_links_of_the_layer_stay_in_the_layer() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        let mut tree = Tree::open(root.path()).unwrap();
        // The link's target does not exist within the root, and nothing is made outside.
        assert!(tree.directory(b"link/sub").is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
