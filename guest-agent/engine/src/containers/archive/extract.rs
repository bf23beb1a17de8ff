//! A tar into a directory of a container.
//!
//! Archive and container are both hostile. Each entry's place is resolved anew, confined to the container's root;
//! the entry itself is made without following a link, and what it gets besides its content it gets by descriptor.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use runtime::View;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, makedev};
use rustix::io::Errno;
use tar::EntryType;

use crate::error::{Error, Result};

/// One extraction.
pub(super) struct Extraction<'a> {
    pub(super) view: &'a View,
    /// A directory of the container.
    pub(super) destination: &'a Path,
    pub(super) no_overwrite: bool,
    /// Who gets everything, instead of whom the archive names.
    pub(super) owner: Option<(u32, u32)>,
}

/// What an entry gets besides its content.
struct Traits {
    uid: u32,
    gid: u32,
    mode: u32,
    modified: i64,
    attributes: Vec<(OsString, Vec<u8>)>,
}

impl Extraction<'_> {
    /// Extracts a tar, plain or compressed.
    pub(super) fn run(&self, source: impl Read) -> Result<()> {
        let mut source = BufReader::new(source);
        let start = source.fill_buf().map_err(broken)?;
        match start {
            [0x1f, 0x8b, ..] => self.tar(flate2::read::MultiGzDecoder::new(source)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                self.tar(zstd::stream::read::Decoder::with_buffer(source).map_err(broken)?)
            }
            [b'B', b'Z', b'h', ..] => Err(Error::invalid("archives compressed by bzip2 cannot be read")),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => {
                Err(Error::invalid("archives compressed by xz cannot be read"))
            }
            _ => self.tar(source),
        }
    }

    fn tar(&self, mut source: impl Read) -> Result<()> {
        let mut archive = tar::Archive::new(&mut source);
        // A directory's time changes with every file that is put into it, so it is set last.
        let mut directories = Vec::new();
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            self.entry(&mut entry, &mut directories)?;
        }
        for (path, modified) in directories.into_iter().rev() {
            let opened = self.view.open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW);
            if let Ok(directory) = opened {
                // One that the container took away meanwhile needs no time.
                let _ = rustix::fs::futimens(&directory, &times(modified));
            }
        }
        // Whatever follows the archive's end is read, so that the client sees its upload taken.
        io::copy(&mut source, &mut io::sink()).map(drop).map_err(broken)
    }

    fn entry<R: Read>(
        &self,
        entry: &mut tar::Entry<'_, R>,
        directories: &mut Vec<(PathBuf, i64)>,
    ) -> Result<()> {
        let given = OsString::from_vec(entry.path_bytes().into_owned());
        let Some(path) = inside(Path::new(&given)) else {
            return Err(Error::invalid(format_args!("{} is outside of the destination", given.display())));
        };
        let Some(name) = path.file_name() else { return Ok(()) };
        let failed = |error: Errno| self.failed(&path, &error.into());
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        let kind = entry.header().entry_type();
        let is_directory = kind == EntryType::Directory;
        let stands = self.make_room(&parent, name, &path, is_directory)?;
        let traits = self.traits(entry)?;
        match kind {
            EntryType::Directory => {
                if !stands {
                    rustix::fs::mkdirat(&parent, name, Mode::RWXU).map_err(failed)?;
                }
                directories.push((self.destination.join(&path), traits.modified));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR);
                let mut file = File::from(file.map_err(failed)?);
                io::copy(entry, &mut file).map_err(|error| self.failed(&path, &error))?;
            }
            EntryType::Symlink => {
                let target = link(entry, &path)?;
                rustix::fs::symlinkat(&target, &parent, name).map_err(failed)?;
            }
            EntryType::Link => return self.hard_link(&link(entry, &path)?, &parent, name, &path),
            EntryType::Fifo | EntryType::Char | EntryType::Block => {
                let header = entry.header();
                let number = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
                let (major, minor) = (number(header.device_major()), number(header.device_minor()));
                let (file_type, device) = match kind {
                    EntryType::Fifo => (FileType::Fifo, 0),
                    EntryType::Char => (FileType::CharacterDevice, makedev(major, minor)),
                    _ => (FileType::BlockDevice, makedev(major, minor)),
                };
                rustix::fs::mknodat(&parent, name, file_type, Mode::RUSR | Mode::WUSR, device)
                    .map_err(failed)?;
            }
            _ => return Ok(()),
        }
        finish(parent.as_fd(), name, kind, &traits).map_err(failed)
    }

    /// The directory of an entry, made when the archive doesn't have it.
    fn directory(&self, path: &Path) -> Result<OwnedFd> {
        let whole = self.destination.join(path);
        let opened = match self.view.open(&whole, OFlags::PATH | OFlags::DIRECTORY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.view.make_directory(&whole),
            other => other,
        };
        opened.map_err(|error| self.failed(path, &error))
    }

    /// Takes away what stands at an entry's place. Says whether a directory stays there.
    fn make_room(&self, parent: &OwnedFd, name: &OsStr, path: &Path, wants_directory: bool) -> Result<bool> {
        let found = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => FileType::from_raw_mode(found.st_mode),
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(self.failed(path, &error.into())),
        };
        let whole = self.destination.join(path);
        match (found == FileType::Directory, wants_directory) {
            (true, true) => return Ok(true),
            (true, false) if self.no_overwrite => {
                return Err(Error::invalid(format_args!(
                    "cannot overwrite directory \"{0}\" with non-directory \"{0}\"",
                    whole.display()
                )));
            }
            (false, true) if self.no_overwrite => {
                return Err(Error::invalid(format_args!(
                    "cannot overwrite non-directory \"{0}\" with directory \"{0}\"",
                    whole.display()
                )));
            }
            (true, false) => {
                // The descriptor names the directory whatever its path leads to by now, and std removes below it
                // without following links.
                let place = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
                std::fs::remove_dir_all(place).map_err(|error| self.failed(path, &error))?;
            }
            (false, _) => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty())
                    .map_err(|error| self.failed(path, &error.into()))?;
            }
        }
        Ok(false)
    }

    fn hard_link(&self, target: &OsStr, parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<()> {
        let outside = || {
            Error::invalid(format_args!("{} links to {}, which is outside", path.display(), target.display()))
        };
        let target_path = inside(Path::new(target)).ok_or_else(outside)?;
        let target_name = target_path.file_name().ok_or_else(outside)?;
        let directory = self.directory(target_path.parent().unwrap_or(Path::new("")))?;
        rustix::fs::linkat(&directory, target_name, parent, name, AtFlags::empty())
            .map_err(|error| self.failed(path, &error.into()))
    }

    fn traits<R: Read>(&self, entry: &mut tar::Entry<'_, R>) -> Result<Traits> {
        let header = entry.header();
        let number = |number: u64| u32::try_from(number).unwrap_or(0);
        let (mut uid, mut gid) =
            (number(header.uid().map_err(broken)?), number(header.gid().map_err(broken)?));
        let mode = header.mode().map_err(broken)? & 0o7777;
        let modified = i64::try_from(header.mtime().map_err(broken)?).unwrap_or(0);
        let mut attributes = Vec::new();
        for extension in entry.pax_extensions().map_err(broken)?.into_iter().flatten() {
            let extension = extension.map_err(broken)?;
            let text = || extension.value().ok().and_then(|text| text.parse().ok());
            match extension.key_bytes() {
                b"uid" => uid = text().unwrap_or(uid),
                b"gid" => gid = text().unwrap_or(gid),
                key => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                        && (name.starts_with(b"user.") || name == b"security.capability")
                    {
                        let name = OsStr::from_bytes(name).to_owned();
                        attributes.push((name, extension.value_bytes().to_vec()));
                    }
                }
            }
        }
        (uid, gid) = self.owner.unwrap_or((uid, gid));
        Ok(Traits { uid, gid, mode, modified, attributes })
    }

    fn failed(&self, path: &Path, error: &io::Error) -> Error {
        let path = self.destination.join(path);
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::ROFS) => Error::invalid("container rootfs is marked read-only"),
            Some(Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
                Error::invalid(format_args!("{}: {error}", path.display()))
            }
            _ => Error::io(path.display(), error),
        }
    }
}

/// Owner, mode, attributes and time of what has just been made. If the container has put something else in its
/// place, that is left alone.
fn finish(parent: BorrowedFd<'_>, name: &OsStr, kind: EntryType, traits: &Traits) -> rustix::io::Result<()> {
    let made =
        rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let (uid, gid) = (Some(Uid::from_raw(traits.uid)), Some(Gid::from_raw(traits.gid)));
    rustix::fs::chownat(&made, "", uid, gid, AtFlags::EMPTY_PATH)?;
    let is_link = FileType::from_raw_mode(rustix::fs::fstat(&made)?.st_mode) == FileType::Symlink;
    if is_link || kind == EntryType::Symlink {
        return rustix::fs::utimensat(parent, name, &times(traits.modified), AtFlags::SYMLINK_NOFOLLOW);
    }
    // A descriptor opened by path can't be changed itself; its name in /proc stands for the very file.
    let itself = PathBuf::from(format!("/proc/self/fd/{}", made.as_raw_fd()));
    rustix::fs::chmod(&itself, Mode::from_raw_mode(traits.mode))?;
    for (name, value) in &traits.attributes {
        match rustix::fs::setxattr(&itself, name, value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    rustix::fs::utimensat(CWD, &itself, &times(traits.modified), AtFlags::empty())
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn broken(error: io::Error) -> Error {
    Error::invalid(format_args!("cannot read the archive: {error}"))
}

fn link<R: Read>(entry: &tar::Entry<'_, R>, path: &Path) -> Result<OsString> {
    let target = entry.link_name_bytes().map(|bytes| OsString::from_vec(bytes.into_owned()));
    target.ok_or_else(|| Error::invalid(format_args!("{} is a link to nothing", path.display())))
}

/// A name of the archive as a relative path; none when it climbs out.
fn inside(name: &Path) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::ParentDir if !path.pop() => return None,
            _ => {}
        }
    }
    Some(path)
}

/// The numbers of a container's user, by its own /etc/passwd. None for root and for who isn't there.
pub(super) fn owner(view: &View, user: &str) -> Option<(u32, u32)> {
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    if user.is_empty() {
        return None;
    }
    let table = |path: &str| {
        let mut text = String::new();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = view.open(Path::new(path), flags).map(File::from).ok()?;
        file.take(1 << 20).read_to_string(&mut text).ok()?;
        Some(text)
    };
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<String>>();
    let passwd = table("/etc/passwd").unwrap_or_default();
    let known =
        passwd.lines().map(fields).find(|line| line[0] == user || line.get(2).is_some_and(|id| id == user));
    let known = known.and_then(|line| Some((line.get(2)?.parse().ok()?, line.get(3)?.parse().ok()?)));
    let (uid, own_group) = known.or_else(|| Some((user.parse().ok()?, 0)))?;
    if group.is_empty() {
        return Some((uid, own_group));
    }
    let groups = table("/etc/group").unwrap_or_default();
    let gid =
        groups.lines().map(fields).find(|line| line[0] == group).and_then(|line| line.get(2)?.parse().ok());
    Some((uid, group.parse().ok().or(gid)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_climb_out_are_none() {
        assert_eq!(inside(Path::new("/a/./b/../c")).unwrap(), Path::new("a/c"));
        assert_eq!(inside(Path::new("./")).unwrap(), Path::new(""));
        assert_eq!(inside(Path::new("a/../../b")), None);
        assert_eq!(inside(Path::new("..")), None);
    }
}
