//! A directory as a tar: the inverse of unpacking, and what exports and copies out of containers are made by.
//!
//! The same tree gives the same bytes: names are sorted, and nothing is written that the tree does not say.
//! The tree may be hostile and may change meanwhile. So names are opened from descriptors and never followed, an entry
//! has as many bytes as its header says whatever becomes of its file, and what vanished is left out.

mod content;
mod header;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::tree::os;
use super::unpack::{OPAQUE_ATTRIBUTE, OPAQUE_MARKER, WHITEOUT, is_whiteout};
use header::Head;

/// Deeper trees than a path can name are refused: each level keeps a descriptor open.
const MAX_DEPTH: usize = 2048;
/// More than any file system keeps of one file.
const MAX_ATTRIBUTES: usize = 64 * 1024;
/// Attributes that describe this machine, not the file.
const LOCAL_ATTRIBUTES: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"security.selinux"];

/// Why a tree could not be written as a tar.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file could not be read.
    #[error("cannot {doing} `{name}`")]
    Read {
        /// `open`, `read`, …
        doing: &'static str,
        /// Its name in the archive.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The name means something else in a layer.
    #[error("`{name}` cannot be in a layer: names that begin with `.wh.` stand for what was removed")]
    Reserved {
        /// Its name in the archive.
        name: String,
    },
    /// A tree without end.
    #[error("directories are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// Nobody takes the archive.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

/// How a tree is written.
#[derive(Clone, Copy)]
pub struct Pack<'a> {
    /// Overlay's marks become whiteouts: for the upper directory of a mount, which is to become a layer.
    pub whiteouts: bool,
    /// Whether the root directory has an entry of its own, `./`, which carries its mode and owner.
    pub root: bool,
    /// The owner and group in the archive, from those in the file system.
    pub owner: &'a (dyn Fn(u32, u32) -> (u32, u32) + Sync),
    /// Whether this path of the archive, and all below it, is written.
    pub admit: &'a (dyn Fn(&[u8]) -> bool + Sync),
}

impl std::fmt::Debug for Pack<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pack").field("whiteouts", &self.whiteouts).field("root", &self.root).finish()
    }
}

impl Pack<'static> {
    /// Everything as it is.
    pub fn plain() -> Pack<'static> {
        Pack { whiteouts: false, root: false, owner: &|uid, gid| (uid, gid), admit: &|_| true }
    }

    /// What an upper directory has changed, as a layer says it.
    pub fn layer() -> Pack<'static> {
        Pack { whiteouts: true, root: true, ..Pack::plain() }
    }
}

impl Pack<'_> {
    /// Writes the archive of all that is in `directory`, which may be opened by path only (`O_PATH`).
    pub fn tree(&self, directory: impl AsFd, output: &mut dyn Write) -> Result<(), PackError> {
        let mut packer = Packer { how: *self, output, links: HashMap::new(), levels: Vec::new() };
        let (directory, status) = packer.open_directory(directory.as_fd(), b".", b"./")?;
        if self.root {
            packer.directory_entry(&directory, &status, b"./")?;
        }
        packer.descend(directory, Vec::new())?;
        packer.finish()
    }

    /// Writes the archive of what is called `name` in `parent`, and all below it, under the path `named`.
    pub fn entry(
        &self,
        parent: impl AsFd,
        name: &OsStr,
        named: &[u8],
        output: &mut dyn Write,
    ) -> Result<(), PackError> {
        let mut packer = Packer { how: *self, output, links: HashMap::new(), levels: Vec::new() };
        packer.entry(parent.as_fd(), name.as_bytes(), named.to_vec())?;
        packer.finish()
    }
}

struct Packer<'a> {
    how: Pack<'a>,
    output: &'a mut dyn Write,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    levels: Vec<Level>,
}

/// A directory that is being written.
struct Level {
    directory: Rc<OwnedFd>,
    /// With a slash at the end, or empty.
    path: Vec<u8>,
    names: std::vec::IntoIter<Vec<u8>>,
}

impl Packer<'_> {
    fn finish(mut self) -> Result<(), PackError> {
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let path = [level.path.as_slice(), &name].concat();
            let directory = Rc::clone(&level.directory);
            match self.entry(directory.as_fd(), &name, path) {
                // Gone since its directory was read.
                Err(PackError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
        self.output.write_all(&[0; 1024]).map_err(PackError::Write)
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: Vec<u8>) -> Result<(), PackError> {
        if !(self.how.admit)(&path) {
            return Ok(());
        }
        let status = rustix::fs::statat(parent, os(name), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(refused("examine", &path))?;
        if self.how.whiteouts && is_whiteout(&status) {
            return self.removal(name, &path);
        }
        if self.how.whiteouts && name.starts_with(WHITEOUT) {
            return Err(PackError::Reserved { name: lossy(&path) });
        }
        let kind = FileType::from_raw_mode(status.st_mode);
        if kind != FileType::Directory && self.is_linked(&status, &path)? {
            return Ok(());
        }
        match kind {
            FileType::Directory => {
                let path = [path.as_slice(), b"/"].concat();
                let (directory, status) = self.open_directory(parent, name, &path)?;
                self.directory_entry(&directory, &status, &path)?;
                self.descend(directory, path)
            }
            FileType::RegularFile => self.file(parent, name, &path),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, os(name), Vec::new())
                    .map_err(refused("read", &path))?
                    .into_bytes();
                self.write(Head { link: &target, kind: b'2', ..self.head(&status, &path) })
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let (major, minor) = (rustix::fs::major(status.st_rdev), rustix::fs::minor(status.st_rdev));
                let kind = if kind == FileType::BlockDevice { b'4' } else { b'3' };
                self.write(Head { kind, device: (major, minor), ..self.head(&status, &path) })
            }
            FileType::Fifo => self.write(Head { kind: b'6', ..self.head(&status, &path) }),
            // Sockets live with the process that bound them; no archive has a form for them.
            _ => Ok(()),
        }
    }

    /// Writes a link if the file was written under another name, and notes the name otherwise.
    fn is_linked(&mut self, status: &Stat, path: &[u8]) -> Result<bool, PackError> {
        if status.st_nlink < 2 {
            return Ok(false);
        }
        let key = (status.st_dev, status.st_ino);
        let Some(first) = self.links.get(&key).cloned() else {
            self.links.insert(key, path.to_vec());
            return Ok(false);
        };
        self.write(Head { link: &first, kind: b'1', ..self.head(status, path) })?;
        Ok(true)
    }

    fn removal(&mut self, name: &[u8], path: &[u8]) -> Result<(), PackError> {
        let parent = &path[..path.len() - name.len()];
        let path = [parent, WHITEOUT, name].concat();
        self.write(Head { path: &path, kind: b'0', mode: 0o600, ..Head::default() })
    }

    fn open_directory(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> Result<(OwnedFd, Stat), PackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory =
            rustix::fs::openat(parent, os(name), flags, Mode::empty()).map_err(refused("open", path))?;
        let status = rustix::fs::fstat(&directory).map_err(refused("examine", path))?;
        Ok((directory, status))
    }

    fn directory_entry(&mut self, directory: &OwnedFd, status: &Stat, path: &[u8]) -> Result<(), PackError> {
        let mut opaque = false;
        let xattrs = self.attributes(directory, path, &mut opaque)?;
        self.write(Head { kind: b'5', xattrs, ..self.head(status, path) })?;
        if self.how.whiteouts && opaque {
            let path = [path, OPAQUE_MARKER].concat();
            self.write(Head { path: &path, kind: b'0', mode: 0o600, ..Head::default() })?;
        }
        Ok(())
    }

    fn descend(&mut self, directory: OwnedFd, path: Vec<u8>) -> Result<(), PackError> {
        if self.levels.len() >= MAX_DEPTH {
            return Err(PackError::TooDeep);
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(refused("read", &path))? {
            let name = entry.map_err(refused("read", &path))?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        let directory = Rc::new(directory);
        self.levels.push(Level { directory, path, names: names.into_iter() });
        Ok(())
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), PackError> {
        // Should it have become a pipe a moment ago, opening it does not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(parent, os(name), flags, Mode::empty()).map_err(refused("open", path))?;
        let status = rustix::fs::fstat(&file).map_err(refused("examine", path))?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let xattrs = self.attributes(&file, path, &mut false)?;
        let head = Head { kind: b'0', xattrs, ..self.head(&status, path) };
        content::write(&file, &status, head, self.output)
    }

    /// The attributes that belong to the file, and whether overlay calls the directory opaque.
    fn attributes(
        &self,
        file: &OwnedFd,
        path: &[u8],
        opaque: &mut bool,
    ) -> Result<header::Attributes, PackError> {
        let mut list = vec![0; 1024];
        let length = match rustix::fs::flistxattr(file, list.as_mut_slice()) {
            Err(Errno::RANGE) => {
                list.resize(MAX_ATTRIBUTES, 0);
                rustix::fs::flistxattr(file, list.as_mut_slice())
            }
            outcome => outcome,
        };
        let length = match length {
            Err(Errno::OPNOTSUPP) => 0,
            outcome => outcome.map_err(refused("list the attributes of", path))?,
        };
        let mut found = Vec::new();
        for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            if name == OPAQUE_ATTRIBUTE.as_bytes() {
                *opaque = self.value(file, name).is_some_and(|value| value == b"y");
            }
            if LOCAL_ATTRIBUTES.iter().any(|local| name.starts_with(local)) {
                continue;
            }
            // It may have been taken away since it was listed.
            found.extend(self.value(file, name).map(|value| (name.to_vec(), value)));
        }
        found.sort_unstable();
        Ok(found)
    }

    fn value(&self, file: &OwnedFd, name: &[u8]) -> Option<Vec<u8>> {
        let mut value = vec![0; MAX_ATTRIBUTES];
        let length = rustix::fs::fgetxattr(file, os(name), value.as_mut_slice()).ok()?;
        value.truncate(length);
        if name == b"security.capability" { Some(self.capability(value)) } else { Some(value) }
    }

    /// Capabilities that were set inside a user namespace name its root; in the archive that is plain root.
    fn capability(&self, mut value: Vec<u8>) -> Vec<u8> {
        const VERSION: usize = 3;
        if let Some((rest, root)) = value.split_last_chunk::<4>()
            && rest.len() == 20
            && rest[VERSION] == 3
            && (self.how.owner)(u32::from_le_bytes(*root), 0).0 == 0
        {
            value.truncate(20);
            value[VERSION] = 2;
        }
        value
    }

    fn head<'a>(&self, status: &Stat, path: &'a [u8]) -> Head<'a> {
        let (uid, gid) = (self.how.owner)(status.st_uid, status.st_gid);
        Head {
            path,
            mode: status.st_mode & 0o7777,
            uid,
            gid,
            seconds: status.st_mtime,
            nanoseconds: u32::try_from(status.st_mtime_nsec).unwrap_or(0),
            ..Head::default()
        }
    }

    fn write(&mut self, head: Head<'_>) -> Result<(), PackError> {
        head.write(self.output).map_err(PackError::Write)
    }
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn failed(doing: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> PackError {
    let name = lossy(path);
    move |source| PackError::Read { doing, name, source }
}

fn refused(doing: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> PackError {
    let failed = failed(doing, path);
    move |errno| failed(errno.into())
}

#[cfg(test)]
mod tests;
