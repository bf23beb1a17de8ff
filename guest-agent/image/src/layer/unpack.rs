//! Writing a tar's entries into a directory, in overlay's form: whiteouts become devices 0:0 and attributes.
//!
//! The archive is hostile until its digest was checked, which is after the last byte. So names are resolved by
//! [`Tree`], which nothing leads out of, every size is bounded, and a failure leaves a directory that the caller deletes.

use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::record::Recorder;
use super::tar::{Entry, Kind, Reader, Time};
use super::tree::{Tree, clean, os, split};
use super::{DIFF, HEADERS, REPLACED, UnpackLimits};
use crate::UnpackError;

/// What marks a file that hides one of a lower layer.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// What marks a directory that hides all that lower layers have in it.
pub(super) const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// Other marks of aufs, which mean nothing to anyone else.
const AUFS: &[u8] = b".wh..wh.";
pub(super) const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";
/// Files from this size on are looked at for zeros, which need no space.
const SPARSE_FROM: u64 = 1 << 20;
/// The unit in which zeros are left out: a multiple of every block size.
const HOLE: usize = 64 * 1024;
/// Free space is asked for once per so many bytes written.
const RESERVE_EVERY: u64 = 32 << 20;
/// Hard links whose target comes later; more than that is no sane archive.
const MAX_LATE_LINKS: usize = 100_000;

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Bytes of regular files.
    pub(crate) size: u64,
    /// Entries of the archive.
    pub(crate) entries: u64,
}

/// Unpacks the tar `input` into `directory`, which exists and is empty.
pub(crate) fn unpack(
    input: impl BufRead,
    directory: &Path,
    limits: &UnpackLimits,
) -> Result<Contents, UnpackError> {
    let io = |source: std::io::Error| UnpackError::Entry { doing: "create", name: "/".to_owned(), source };
    std::fs::create_dir(directory.join(DIFF)).map_err(io)?;
    let mut unpacker = Unpacker {
        tree: Tree::open(&directory.join(DIFF)).map_err(|errno| io(errno.into()))?,
        base: File::open(directory).map_err(io)?.into(),
        recorder: Recorder::create(&directory.join(HEADERS))?,
        limits: *limits,
        umask: umask(),
        inherits: false,
        replaced: 0,
        late_links: Vec::new(),
        directory_times: Vec::new(),
        contents: Contents { size: 0, entries: 0 },
        until_reserve: 0,
    };
    let root_mode = Mode::from_raw_mode(0o755);
    rustix::fs::fchmod(unpacker.tree.root(), root_mode).map_err(|errno| io(errno.into()))?;
    let mut reader = Reader::new(input);
    while let Some(entry) = reader.next(&mut unpacker.recorder)? {
        unpacker.entry(&entry, &mut reader)?;
    }
    reader.trailer(&mut unpacker.recorder)?;
    unpacker.finish()
}

struct Unpacker {
    tree: Tree,
    /// The directory that `diff` stands in.
    base: OwnedFd,
    recorder: Recorder,
    limits: UnpackLimits,
    umask: u32,
    /// Some directory hands its group or its access list on to new files, so none can be taken for granted.
    inherits: bool,
    replaced: u64,
    late_links: Vec<(Vec<u8>, Vec<u8>)>,
    directory_times: Vec<(Vec<u8>, Time)>,
    contents: Contents,
    until_reserve: u64,
}

impl Unpacker {
    fn entry<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<(), UnpackError> {
        self.count(entry)?;
        let escape = |name: &[u8]| UnpackError::Escape { name: String::from_utf8_lossy(name).into_owned() };
        let path = clean(&entry.path).ok_or_else(|| escape(&entry.path))?;
        let (parent, name) = split(&path);
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return match name {
                OPAQUE_MARKER => self.opaque(parent, &path),
                _ if name.starts_with(AUFS) => Ok(()),
                _ if matches!(hidden, b"" | b"." | b"..") => Err(escape(&entry.path)),
                _ => self.whiteout(parent, hidden, &path),
            };
        }
        match entry.kind {
            Kind::Directory => self.directory(entry, &path),
            // Only a directory can be the layer's root.
            _ if path.is_empty() => Err(escape(&entry.path)),
            Kind::File => self.file(entry, &path, reader),
            Kind::Symlink => self.symlink(entry, &path),
            Kind::HardLink => {
                let target = clean(&entry.link).ok_or_else(|| escape(&entry.link))?;
                self.hard_link(target, path)
            }
            Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => self.node(entry, &path),
        }
    }

    fn count(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        self.contents.entries += 1;
        if self.contents.entries > self.limits.entries {
            return Err(UnpackError::TooLarge { limit: self.limits.entries, unit: "entries" });
        }
        if entry.kind == Kind::File {
            self.contents.size = self.contents.size.saturating_add(entry.size);
        }
        if self.contents.size > self.limits.bytes {
            return Err(UnpackError::TooLarge { limit: self.limits.bytes, unit: "bytes" });
        }
        let weight = entry.stored + 4096;
        if self.until_reserve < weight {
            self.until_reserve = RESERVE_EVERY;
            let space = rustix::fs::fstatvfs(&self.base).map_err(|errno| failed("measure", b"/", errno))?;
            if space.f_bavail.saturating_mul(space.f_frsize)
                < self.limits.reserve.saturating_add(entry.stored)
            {
                return Err(UnpackError::NoSpace);
            }
        }
        self.until_reserve = self.until_reserve.saturating_sub(weight);
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        path: &[u8],
        reader: &mut Reader<R>,
    ) -> Result<(), UnpackError> {
        let mode = entry.mode & 0o777;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.make(path, "create", |parent, name| {
            rustix::fs::openat(parent, os(name), flags, Mode::from_raw_mode(mode))
        })?;
        let file = File::from(file);
        if let Some(segments) = &entry.segments {
            for (offset, length) in segments {
                self.recorder.content(path, *offset, *length)?;
                write_content(&file, path, *offset, *length, false, reader)?;
            }
            file.set_len(entry.size).map_err(|source| broken("resize", path, source))?;
        } else if entry.size > 0 {
            self.recorder.content(path, 0, entry.size)?;
            write_content(&file, path, 0, entry.size, entry.size >= SPARSE_FROM, reader)?;
        }
        let owned = entry.uid != 0 || entry.gid != 0 || self.inherits;
        if owned {
            let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
            rustix::fs::fchown(&file, uid, gid).map_err(|errno| failed("chown", path, errno))?;
        }
        if entry.mode != mode || mode & self.umask != 0 || self.inherits {
            let mode = Mode::from_raw_mode(entry.mode);
            rustix::fs::fchmod(&file, mode).map_err(|errno| failed("chmod", path, errno))?;
        }
        self.attributes(&file, path, entry)?;
        rustix::fs::futimens(&file, &times(entry.modified))
            .map_err(|errno| failed("set the time of", path, errno))
    }

    fn directory(&mut self, entry: &Entry, path: &[u8]) -> Result<(), UnpackError> {
        let directory = if path.is_empty() {
            self.tree.directory(b"").map_err(|errno| failed("open", path, errno))?
        } else {
            self.make_directory(path)?
        };
        let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
        rustix::fs::fchown(&*directory, uid, gid).map_err(|errno| failed("chown", path, errno))?;
        let mode = Mode::from_raw_mode(entry.mode);
        rustix::fs::fchmod(&*directory, mode).map_err(|errno| failed("chmod", path, errno))?;
        let hands_on = entry.xattrs.iter().any(|(name, _)| name == b"system.posix_acl_default");
        self.inherits |= hands_on || entry.mode & 0o2000 != 0;
        self.attributes(&directory, path, entry)?;
        // Its time changes with every file that is put into it, so it is set last.
        self.directory_times.push((path.to_vec(), entry.modified));
        Ok(())
    }

    fn make_directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, UnpackError> {
        let (parent, name) = self.tree.parent(path).map_err(|errno| failed("create", path, errno))?;
        let mut opaque = false;
        match rustix::fs::mkdirat(&*parent, os(name), Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let status = rustix::fs::statat(&*parent, os(name), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| failed("examine", path, errno))?;
                if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
                    opaque = is_whiteout(&status);
                    self.replace(path, &parent, name)?;
                    rustix::fs::mkdirat(&*parent, os(name), Mode::from_raw_mode(0o755))
                        .map_err(|errno| failed("create", path, errno))?;
                }
            }
            Err(errno) => return Err(failed("create", path, errno)),
        }
        let directory = self.tree.directory(path).map_err(|errno| failed("open", path, errno))?;
        if opaque {
            // Hidden and made anew in one layer: nothing of the lower one shows.
            set_opaque(&directory, path)?;
        }
        Ok(directory)
    }

    fn symlink(&mut self, entry: &Entry, path: &[u8]) -> Result<(), UnpackError> {
        let target = os(&entry.link);
        self.make(path, "link", |parent, name| rustix::fs::symlinkat(target, parent, os(name)))?;
        self.decorate(entry, path, false)
    }

    fn node(&mut self, entry: &Entry, path: &[u8]) -> Result<(), UnpackError> {
        let kind = match entry.kind {
            Kind::Fifo => FileType::Fifo,
            _ if !self.limits.devices => {
                return Err(UnpackError::DeviceRefused { name: String::from_utf8_lossy(path).into_owned() });
            }
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::CharacterDevice,
        };
        let device = match kind {
            FileType::Fifo => 0,
            _ => rustix::fs::makedev(entry.device.0, entry.device.1),
        };
        let mode = Mode::from_raw_mode(entry.mode);
        self.make(path, "make node", |parent, name| {
            rustix::fs::mknodat(parent, os(name), kind, mode, device)
        })?;
        self.decorate(entry, path, true)
    }

    fn hard_link(&mut self, target: Vec<u8>, path: Vec<u8>) -> Result<(), UnpackError> {
        match self.link(&target, &path) {
            Err(UnpackError::Entry { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                if self.late_links.len() >= MAX_LATE_LINKS {
                    return Err(UnpackError::TooLarge {
                        limit: MAX_LATE_LINKS as u64,
                        unit: "early hard links",
                    });
                }
                self.late_links.push((target, path));
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn link(&mut self, target: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        let (from, from_name) = self.tree.parent(target).map_err(|errno| failed("link to", target, errno))?;
        if target == path {
            return Ok(());
        }
        rustix::fs::statat(&*from, os(from_name), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed("link to", target, errno))?;
        // Without AT_SYMLINK_FOLLOW a link to a link is a link to the link itself.
        self.make(path, "link", |parent, name| {
            rustix::fs::linkat(&*from, os(from_name), parent, os(name), AtFlags::empty())
        })
    }

    /// Makes something at `path`, in place of what an earlier entry may have made there.
    fn make<T>(
        &mut self,
        path: &[u8],
        doing: &'static str,
        make: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        let (parent, name) = self.tree.parent(path).map_err(|errno| failed(doing, path, errno))?;
        match make(&parent, name) {
            Err(Errno::EXIST) => {
                self.replace(path, &parent, name)?;
                make(&parent, name).map_err(|errno| failed(doing, path, errno))
            }
            outcome => outcome.map_err(|errno| failed(doing, path, errno)),
        }
    }

    /// Moves what has this name aside: its content belongs to the tar, though not to the layer.
    fn replace(&mut self, path: &[u8], parent: &OwnedFd, name: &[u8]) -> Result<(), UnpackError> {
        let fail = |errno| failed("replace", path, errno);
        let status = rustix::fs::statat(parent, os(name), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        let kind = FileType::from_raw_mode(status.st_mode);
        if !matches!(kind, FileType::Directory | FileType::RegularFile) {
            rustix::fs::unlinkat(parent, os(name), AtFlags::empty()).map_err(fail)?;
            self.tree.forget();
            return Ok(());
        }
        if self.replaced == 0 {
            rustix::fs::mkdirat(&self.base, REPLACED, Mode::from_raw_mode(0o700)).map_err(fail)?;
        }
        let target = format!("{REPLACED}/{}", self.replaced);
        rustix::fs::renameat(parent, os(name), &self.base, target.as_str()).map_err(fail)?;
        self.recorder.moved(path, self.replaced)?;
        self.replaced += 1;
        self.tree.forget();
        Ok(())
    }

    fn opaque(&mut self, parent: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        let directory = self.tree.directory(parent).map_err(|errno| failed("open", path, errno))?;
        set_opaque(&directory, parent)
    }

    fn whiteout(&mut self, parent: &[u8], hidden: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        let fail = |errno| failed("white out", path, errno);
        let directory = self.tree.directory(parent).map_err(fail)?;
        let nothing = rustix::fs::makedev(0, 0);
        let mode = Mode::empty();
        match rustix::fs::mknodat(&*directory, os(hidden), FileType::CharacterDevice, mode, nothing) {
            // A whiteout hides what lower layers have, never what its own layer has.
            Err(Errno::EXIST) => {
                let status =
                    rustix::fs::statat(&*directory, os(hidden), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
                if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
                    return Ok(());
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(&*directory, os(hidden), flags, Mode::empty()).map_err(fail)?;
                set_opaque(&made, path)
            }
            outcome => outcome.map_err(fail),
        }
    }

    /// Owner, mode and time of what is not opened.
    fn decorate(&mut self, entry: &Entry, path: &[u8], mode: bool) -> Result<(), UnpackError> {
        let (parent, name) = self.tree.parent(path).map_err(|errno| failed("open", path, errno))?;
        let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
        let name = os(name);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&*parent, name, uid, gid, flags).map_err(|errno| failed("chown", path, errno))?;
        if mode {
            // It was made a moment ago in a directory that nobody else writes to, and is no link.
            rustix::fs::chmodat(&*parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(|errno| failed("chmod", path, errno))?;
        }
        rustix::fs::utimensat(&*parent, name, &times(entry.modified), flags)
            .map_err(|errno| failed("set the time of", path, errno))
    }

    fn attributes(&mut self, file: &impl AsFd, path: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        for (name, value) in &entry.xattrs {
            // Overlay's own attributes would let a layer point into others.
            if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
                continue;
            }
            self.inherits |= name == b"system.posix_acl_default";
            match rustix::fs::fsetxattr(file, os(name), value, XattrFlags::empty()) {
                // The file system, or the kernel, has no such attributes: docker goes on without, too.
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(failed("set an attribute of", path, errno)),
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Contents, UnpackError> {
        for (target, path) in std::mem::take(&mut self.late_links) {
            self.link(&target, &path)?;
        }
        for (path, modified) in std::mem::take(&mut self.directory_times) {
            let directory = match path.as_slice() {
                b"" => self.tree.directory(b""),
                path => self.tree.directory(path),
            };
            // A directory may have been replaced since.
            match directory.map(|directory| rustix::fs::futimens(&*directory, &times(modified))) {
                Ok(Ok(())) | Err(Errno::NOTDIR | Errno::NOENT) => {}
                Ok(Err(errno)) | Err(errno) => return Err(failed("set the time of", &path, errno)),
            }
        }
        self.recorder.finish()?;
        Ok(self.contents)
    }
}

fn write_content<R: BufRead>(
    file: &File,
    path: &[u8],
    mut offset: u64,
    length: u64,
    holes: bool,
    reader: &mut Reader<R>,
) -> Result<(), UnpackError> {
    let end = offset + length;
    let mut hole = false;
    reader.content(length, |bytes| {
        let unit = if holes { HOLE } else { bytes.len() };
        for piece in bytes.chunks(unit) {
            hole = holes && is_zero(piece);
            if !hole {
                file.write_all_at(piece, offset).map_err(|source| broken("write", path, source))?;
            }
            offset += piece.len() as u64;
        }
        Ok(())
    })?;
    if hole {
        file.set_len(end).map_err(|source| broken("resize", path, source))?;
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    // The first bytes decide nearly always.
    bytes.iter().take(16).all(|byte| *byte == 0) && bytes.iter().all(|byte| *byte == 0)
}

fn set_opaque(directory: &impl AsFd, path: &[u8]) -> Result<(), UnpackError> {
    rustix::fs::fsetxattr(directory, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())
        .map_err(|errno| failed("make opaque", path, errno))
}

/// Whether a directory of a layer hides what lower layers have in it.
pub(crate) fn is_opaque(directory: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(directory, OPAQUE_ATTRIBUTE, &mut value[..]) == Ok(1) && value == *b"y"
}

pub(super) fn is_whiteout(status: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice && status.st_rdev == 0
}

fn times(modified: Time) -> Timestamps {
    let time = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// The bits that new files lose. A wrong guess only costs a system call per file.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0o777)
}

fn failed(doing: &'static str, path: &[u8], errno: Errno) -> UnpackError {
    broken(doing, path, errno.into())
}

fn broken(doing: &'static str, path: &[u8], source: std::io::Error) -> UnpackError {
    if source.kind() == std::io::ErrorKind::StorageFull || source.kind() == std::io::ErrorKind::QuotaExceeded
    {
        return UnpackError::NoSpace;
    }
    UnpackError::Entry { doing, name: format!("/{}", String::from_utf8_lossy(path)), source }
}
