//! Copy-up: a new volume begins with what the image has at its place.
//!
//! The image is hostile: its place is opened by `openat2` within the image's root, everything below it relative
//! to opened directories without following links, and what is written lies under a directory that nobody else
//! can reach yet.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Copies the content of `place` within `root` into the directory `volume`, with the place's own owner and mode.
/// A place that isn't there, or is no directory, leaves the volume empty.
pub(crate) fn copy_up(root: &OwnedFd, place: &Path, volume: &Path) -> io::Result<()> {
    let relative = place.strip_prefix("/").unwrap_or(place);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let source = match rustix::fs::openat2(
        root,
        relative,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    ) {
        Ok(source) => source,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let target = rustix::fs::open(volume, DIRECTORY, Mode::empty())?;
    directory(source.as_fd(), target.as_fd())?;
    finish_directory(source.as_fd(), target.as_fd())
}

fn directory(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    for entry in Dir::read_from(source)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        copy(source, target, name, &stat).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", OsStr::from_bytes(name.to_bytes()).display()))
        })?;
    }
    Ok(())
}

fn copy(source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let mode = Mode::from_raw_mode(stat.st_mode);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let from = rustix::fs::openat(source, name, DIRECTORY, Mode::empty())?;
            rustix::fs::mkdirat(target, name, Mode::RWXU)?;
            let to = rustix::fs::openat(target, name, DIRECTORY, Mode::empty())?;
            directory(from.as_fd(), to.as_fd())?;
            return finish_directory(from.as_fd(), to.as_fd());
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let from = rustix::fs::openat(source, name, flags, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let to = rustix::fs::openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
            io::copy(&mut std::fs::File::from(from.try_clone()?), &mut std::fs::File::from(to.try_clone()?))?;
            own(to.as_fd(), stat)?;
            rustix::fs::fchmod(&to, mode)?;
            attributes(from.as_fd(), to.as_fd())?;
            return Ok(rustix::fs::futimens(&to, &times(stat))?);
        }
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(source, name, Vec::new())?;
            rustix::fs::symlinkat(&link, target, name)?;
        }
        kind => rustix::fs::mknodat(target, name, kind, mode, stat.st_rdev)?,
    }
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::chownat(target, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(rustix::fs::utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn own(fd: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    Ok(rustix::fs::fchown(fd, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?)
}

/// Owner, mode, attributes and times of a directory whose content is there.
fn finish_directory(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(source)?;
    own(target, &stat)?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode))?;
    attributes(source, target)?;
    Ok(rustix::fs::futimens(target, &times(&stat))?)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: nanos };
    Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
    }
}

/// Extended attributes: file capabilities and what users set. Overlay's own stay behind.
fn attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = vec![0; 64 * 1024];
    let length = match rustix::fs::flistxattr(source, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut value = vec![0; 64 * 1024];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if !name.starts_with(b"user.") && name != b"security.capability" {
            continue;
        }
        let length = rustix::fs::fgetxattr(source, name, &mut value)?;
        rustix::fs::fsetxattr(target, name, &value[..length], rustix::fs::XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn root(directory: &Path) -> OwnedFd {
        rustix::fs::open(directory, DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn content_links_and_modes_are_copied() {
        let temporary = tempfile::tempdir().unwrap();
        let (image, volume) = (temporary.path().join("image"), temporary.path().join("volume"));
        fs::create_dir_all(image.join("var/lib/db/sub")).unwrap();
        fs::create_dir(&volume).unwrap();
        fs::write(image.join("var/lib/db/sub/file"), "content").unwrap();
        fs::set_permissions(image.join("var/lib/db/sub/file"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::set_permissions(image.join("var/lib/db"), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("sub/file", image.join("var/lib/db/link")).unwrap();
        copy_up(&root(&image), Path::new("/var/lib/db"), &volume).unwrap();
        assert_eq!(fs::read_to_string(volume.join("link")).unwrap(), "content");
        assert_eq!(fs::metadata(volume.join("sub/file")).unwrap().mode() & 0o7777, 0o4711);
        assert_eq!(fs::metadata(&volume).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_link_in_the_image_can_t_lead_out_of_it() {
        let temporary = tempfile::tempdir().unwrap();
        let (image, volume) = (temporary.path().join("image"), temporary.path().join("volume"));
        fs::create_dir(&image).unwrap();
        fs::create_dir(&volume).unwrap();
        fs::create_dir(temporary.path().join("secret")).unwrap();
        fs::write(temporary.path().join("secret/key"), "key").unwrap();
        std::os::unix::fs::symlink("../secret", image.join("data")).unwrap();
        copy_up(&root(&image), Path::new("/data"), &volume).unwrap();
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
    }

    #[test]
    fn a_place_that_is_not_there_leaves_the_volume_empty() {
        let temporary = tempfile::tempdir().unwrap();
        let volume = temporary.path().join("volume");
        fs::create_dir(&volume).unwrap();
        copy_up(&root(temporary.path()), Path::new("/nothing"), &volume).unwrap();
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
    }
}
