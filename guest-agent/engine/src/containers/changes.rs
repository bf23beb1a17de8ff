//! What a container has changed in its image's files: `docker diff`.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Serialize, Serializer};

use crate::engine::Engine;
use crate::error::{Error, Result};

/// Directories that are nested deeper are not looked into.
const DEEPEST: usize = 2048;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    /// Where.
    pub path: String,
    /// What.
    pub kind: ChangeKind,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another one, or has other content.
    Modified = 0,
    /// It is new.
    Added = 1,
    /// It is gone.
    Deleted = 2,
}

impl Serialize for ChangeKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

/// Places for mounts that the engine itself makes in every container: no change of the container's.
const PLACES: [&[u8]; 6] = [b"dev", b"proc", b"sys", b"etc/hosts", b"etc/hostname", b"etc/resolv.conf"];

/// Whether this path of an upper directory is there for the engine's own mounts only.
pub(crate) fn is_place(path: &[u8], stat: Option<&Stat>) -> bool {
    PLACES.contains(&path)
        && stat.is_none_or(|stat| match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => true,
            FileType::RegularFile => stat.st_size == 0,
            _ => false,
        })
}

/// `GET /containers/{name}/changes`
pub(crate) async fn changes(engine: &Engine, name: &str) -> Result<Vec<Change>> {
    let container = engine.inner().registry.get(name)?;
    let engine = engine.clone();
    let work = tokio::task::spawn_blocking(move || {
        let rootfs = super::launch::rootfs(&engine, &container, &container.now())?;
        let failed = |error: io::Error| Error::io(format_args!("cannot compare {}", container.id), &error);
        let image = engine.inner().runtime.mount_layers(&rootfs.lowers).map_err(failed)?;
        compare(&rootfs.upper, &image).map_err(failed)
    });
    work.await.map_err(Error::system)?
}

fn compare(upper: &Path, image: &OwnedFd) -> io::Result<Vec<Change>> {
    let upper = rustix::fs::open(upper, DIRECTORY, Mode::empty())?;
    let image = rustix::fs::openat(image, ".", DIRECTORY, Mode::empty())?;
    let mut comparison = Comparison { changes: Vec::new() };
    comparison.directory(&upper, Some(&image), &mut PathBuf::new(), 0)?;
    comparison.changes.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(comparison.changes)
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Comparison {
    changes: Vec<Change>,
}

impl Comparison {
    fn add(&mut self, path: &Path, kind: ChangeKind) {
        self.changes.push(Change { path: format!("/{}", path.to_string_lossy()), kind });
    }

    fn directory(
        &mut self,
        upper: &OwnedFd,
        lower: Option<&OwnedFd>,
        path: &mut PathBuf,
        depth: usize,
    ) -> io::Result<()> {
        if depth == DEEPEST {
            return Ok(());
        }
        let names = names(upper.as_fd())?;
        if let Some(lower) = lower.filter(|_| is_opaque(upper.as_fd())) {
            for name in self::names(lower.as_fd())?.into_iter().filter(|name| !names.contains(name)) {
                self.add(&path.join(name), ChangeKind::Deleted);
            }
        }
        for name in names {
            path.push(&name);
            self.file(upper.as_fd(), lower.map(AsFd::as_fd), &name, path, depth)?;
            path.pop();
        }
        Ok(())
    }

    fn file(
        &mut self,
        upper: BorrowedFd<'_>,
        lower: Option<BorrowedFd<'_>>,
        name: &OsString,
        path: &mut PathBuf,
        depth: usize,
    ) -> io::Result<()> {
        let Some(now) = stat(upper, name)? else { return Ok(()) };
        let before = lower.map(|lower| stat(lower, name)).transpose()?.flatten();
        if is_whiteout(&now) {
            if before.is_some() {
                self.add(path, ChangeKind::Deleted);
            }
            return Ok(());
        }
        if before.is_none() && is_place(path.as_os_str().as_bytes(), Some(&now)) {
            return Ok(());
        }
        let is_directory = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let traits = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
        let content = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec, stat.st_size, stat.st_rdev);
        let kind = match &before {
            None => Some(ChangeKind::Added),
            Some(before) if traits(before) != traits(&now) => Some(ChangeKind::Modified),
            // A directory's time changes with its content, which is told by itself.
            Some(before) if !is_directory(&now) && content(before) != content(&now) => {
                Some(ChangeKind::Modified)
            }
            Some(_) => None,
        };
        let first = self.changes.len();
        if is_directory(&now) {
            let opened = rustix::fs::openat(upper, name, DIRECTORY, Mode::empty())?;
            let below = match (lower, before.as_ref().is_some_and(is_directory)) {
                (Some(lower), true) => Some(rustix::fs::openat(lower, name, DIRECTORY, Mode::empty())?),
                _ => None,
            };
            self.directory(&opened, below.as_ref(), path, depth + 1)?;
        }
        match kind {
            Some(kind) => self.add(path, kind),
            None if self.changes.len() > first => self.add(path, ChangeKind::Modified),
            None => {}
        }
        Ok(())
    }
}

/// Nothing when it has gone since its directory was read.
fn stat(directory: BorrowedFd<'_>, name: &OsString) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let mut value = [0; 2];
    rustix::fs::fgetxattr(directory, "trusted.overlay.opaque", &mut value)
        .is_ok_and(|length| &value[..length] == b"y")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn added_changed_and_deleted_files_are_told_with_the_directories_above() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: whiteouts need root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (upper, image) = (directory.path().join("upper"), directory.path().join("image"));
        for path in ["etc", "var/log", "same"] {
            fs::create_dir_all(upper.join(path)).unwrap();
            fs::create_dir_all(image.join(path)).unwrap();
        }
        fs::write(image.join("etc/passwd"), "a").unwrap();
        fs::write(upper.join("etc/passwd"), "ab").unwrap();
        fs::write(upper.join("etc/hosts"), "").unwrap();
        fs::create_dir(upper.join("proc")).unwrap();
        fs::create_dir(upper.join("new")).unwrap();
        fs::write(upper.join("new/file"), "").unwrap();
        fs::write(image.join("var/log/old"), "").unwrap();
        let whiteout = rustix::fs::makedev(0, 0);
        let mode = Mode::empty();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            upper.join("var/log/old"),
            FileType::CharacterDevice,
            mode,
            whiteout,
        )
        .unwrap();
        let image = rustix::fs::open(&image, DIRECTORY, Mode::empty()).unwrap();
        let told: Vec<String> = compare(&upper, &image)
            .unwrap()
            .iter()
            .map(|change| format!("{} {}", ["C", "A", "D"][change.kind as usize], change.path))
            .collect();
        assert_eq!(
            told,
            ["C /etc", "C /etc/passwd", "A /new", "A /new/file", "C /var", "C /var/log", "D /var/log/old"]
        );
    }
}
