//! Copies in and out of containers: what `docker cp` asks for.
//!
//! A container's files are hostile, whether it runs or not: see [`runtime::View`] for how they are looked at.

mod extract;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use runtime::View;
use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use serde::Serialize;

use super::container::Container;
use super::launch;
use super::mounts;
use super::record::Record;
use super::request::BoxStream;
use super::state::State;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pipe;
use crate::time::Time;

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// What is at a path of a container: the `X-Docker-Container-Path-Stat` header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathStat {
    /// The last part of its path.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Kind and permissions, in Go's encoding.
    pub mode: u32,
    /// Last change.
    pub mtime: Time,
    /// Where a link leads, as a path of the container.
    pub link_target: String,
}

/// `PUT /containers/{name}/archive`.
#[derive(Debug, Clone, Default)]
pub struct ExtractOptions {
    /// The directory to extract to.
    pub path: String,
    /// Refuse to replace a directory by something else, and the other way round.
    pub no_overwrite: bool,
    /// Give everything to the container's user.
    pub copy_owner: bool,
}

/// `HEAD /containers/{name}/archive`
pub(crate) async fn stat(engine: &Engine, name: &str, path: &str) -> Result<PathStat> {
    let (name, asked) = (name.to_owned(), Asked::new(path));
    look(engine, &name.clone(), move |view, _| {
        status(&view, &asked).map_err(|error| not_found(&error, &asked, &name))
    })
    .await
}

/// `GET /containers/{name}/archive`
pub(crate) async fn read(
    engine: &Engine,
    name: &str,
    path: &str,
) -> Result<(PathStat, BoxStream<io::Result<Bytes>>)> {
    let container = engine.inner().registry.get(name)?;
    let (name, asked) = (name.to_owned(), Asked::new(path));
    let (stat, archive) = look(engine, &name.clone(), move |view, _| {
        let failed = |error: &io::Error| not_found(error, &asked, &name);
        let stat = status(&view, &asked).map_err(|error| failed(&error))?;
        let base = asked.base();
        let (directory, entry) = if stat.mode & GO_DIRECTORY != 0 {
            (asked.whole(), OsStr::new(".").to_owned())
        } else {
            (asked.parent(), OsStr::from_bytes(&base).to_owned())
        };
        let directory =
            view.open(&directory, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|error| failed(&error))?;
        let archive = pipe::produce(move |output| {
            let named = if base == b"/" { b"".to_vec() } else { base };
            let packed = image::layer::Pack::plain().entry(&directory, &entry, &named, output);
            // The view's mounts must stay until the last byte.
            drop(view);
            packed.map_err(io::Error::other)
        });
        Ok((stat, archive))
    })
    .await?;
    container.note("archive-path", Vec::new()).await;
    Ok((stat, archive))
}

/// `PUT /containers/{name}/archive`
pub(crate) async fn write(
    engine: &Engine,
    name: &str,
    options: ExtractOptions,
    archive: BoxStream<io::Result<Bytes>>,
) -> Result<()> {
    let container = engine.inner().registry.get(name)?;
    let name = name.to_owned();
    let source = pipe::consume(archive);
    look(engine, &name.clone(), move |view, record| {
        let asked = Asked::new(&options.path);
        let failed = |error: &io::Error| not_found(error, &asked, &name);
        let whole = asked.whole();
        let found = view.open(&whole, OFlags::PATH).map_err(|error| failed(&error))?;
        let status = rustix::fs::fstat(&found).map_err(|error| failed(&error.into()))?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
            return Err(Error::invalid("extraction point is not a directory"));
        }
        writable(record, &follow(&view, &whole).map_err(|error| failed(&error))?)?;
        let owner = options.copy_owner.then(|| extract::owner(&view, &record.config.user)).flatten();
        extract::Extraction { view: &view, destination: &whole, no_overwrite: options.no_overwrite, owner }
            .run(source)
    })
    .await?;
    container.note("extract-to-dir", Vec::new()).await;
    Ok(())
}

/// `GET /containers/{name}/export`
pub(crate) async fn export(engine: &Engine, name: &str) -> Result<BoxStream<io::Result<Bytes>>> {
    let container = engine.inner().registry.get(name)?;
    let state = container.now().state;
    if matches!(state, State::Dead | State::Removing) {
        let what = if state == State::Dead { "Dead" } else { "being removed" };
        return Err(Error::conflict(format_args!(
            "You cannot export container {} which is {what}",
            container.id
        )));
    }
    let opened = {
        let (engine, container) = (engine.clone(), container.clone());
        tokio::task::spawn_blocking(move || -> Result<View> {
            let record = container.now();
            let view = match container.process() {
                Some(process) => process.bare_view(),
                None => {
                    let rootfs = launch::rootfs(&engine, &container, &record)?;
                    engine.inner().runtime.view(&rootfs, &[])
                }
            };
            view.map_err(|error| Error::io(format_args!("cannot export {}", container.id), &error))
        })
    };
    let view = opened.await.map_err(Error::system)??;
    container.note("export", Vec::new()).await;
    Ok(pipe::produce(move |output| {
        image::layer::Pack::plain().tree(view.root(), output).map_err(io::Error::other)
    }))
}

/// Runs blocking work on a container's files.
async fn look<T: Send + 'static>(
    engine: &Engine,
    name: &str,
    work: impl FnOnce(View, &Record) -> Result<T> + Send + 'static,
) -> Result<T> {
    let container = engine.inner().registry.get(name)?;
    let engine = engine.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let record = container.now();
        let view = open(&engine, &container, &record)?;
        work(view, &record)
    });
    looking.await.map_err(Error::system)?
}

/// A container's files with its mounts.
fn open(engine: &Engine, container: &Arc<Container>, record: &Record) -> Result<View> {
    if matches!(record.state, State::Removing | State::Dead) {
        return Err(Error::conflict(format_args!(
            "container {} is marked for removal and cannot be read",
            container.id
        )));
    }
    let opened = match container.process() {
        Some(process) => process.view(),
        None => {
            let rootfs = launch::rootfs(engine, container, record)?;
            let socket = engine.config().api_socket.as_deref();
            let mounts = record.mounts.iter().map(|entry| entry.plan(socket)).collect::<Result<Vec<_>>>()?;
            engine.inner().runtime.view(&rootfs, &mounts)
        }
    };
    opened.map_err(|error| Error::io(format_args!("cannot open the files of {}", container.id), &error))
}

/// A path as the client wrote it: whether it ends in a slash or a dot decides what a link there means.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    given: String,
    clean: PathBuf,
    /// `/` or `/.` at its end.
    end: &'static str,
}

impl Asked {
    fn new(path: &str) -> Asked {
        let clean = PathBuf::from(mounts::clean(path));
        let end = match path {
            _ if clean == Path::new("/") => "",
            path if path.ends_with("/.") || path == "." => "/.",
            path if path.ends_with('/') => "/",
            _ => "",
        };
        Asked { given: path.to_owned(), clean, end }
    }

    fn whole(&self) -> PathBuf {
        self.clean.clone()
    }

    fn parent(&self) -> PathBuf {
        self.clean.parent().unwrap_or(Path::new("/")).to_owned()
    }

    /// The name of the archive's first entry.
    fn base(&self) -> Vec<u8> {
        match (self.end, self.clean.file_name()) {
            ("/.", _) => b".".to_vec(),
            (_, Some(name)) => name.as_bytes().to_vec(),
            (_, None) => b"/".to_vec(),
        }
    }
}

fn not_found(error: &io::Error, asked: &Asked, name: &str) -> Error {
    let path = &asked.given;
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOENT) => {
            Error::not_found(format_args!("Could not find the file {path} in container {name}"))
        }
        Some(rustix::io::Errno::NOTDIR) => Error::invalid(format_args!("{path}: not a directory")),
        _ => Error::io(format_args!("cannot open {path} in container {name}"), error),
    }
}

fn status(view: &View, asked: &Asked) -> io::Result<PathStat> {
    let base = asked.base();
    let stat: Stat = if asked.end.is_empty() && base != b"/" {
        let parent = view.open(&asked.parent(), OFlags::PATH | OFlags::DIRECTORY)?;
        rustix::fs::statat(&parent, OsStr::from_bytes(&base), AtFlags::SYMLINK_NOFOLLOW)?
    } else {
        // What ends in a slash is a directory or nothing.
        rustix::fs::fstat(view.open(&asked.whole(), OFlags::PATH | OFlags::DIRECTORY)?)?
    };
    let link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    let target = if link { follow(view, &asked.clean)? } else { PathBuf::new() };
    Ok(PathStat {
        name: String::from_utf8_lossy(&base).into_owned(),
        size: stat.st_size,
        mode: go_mode(stat.st_mode),
        mtime: Time::from_unix_nanos(
            stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64),
        ),
        link_target: target.to_string_lossy().into_owned(),
    })
}

const GO_DIRECTORY: u32 = 1 << 31;

/// Kind and permissions as Go's `os.FileMode` has them.
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => GO_DIRECTORY,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        _ => 0,
    };
    let bit = |from: u32, to: u32| if mode & from != 0 { to } else { 0 };
    kind | mode & 0o777 | bit(0o4000, 1 << 23) | bit(0o2000, 1 << 22) | bit(0o1000, 1 << 20)
}

/// Where `path` leads when every link in it is followed, as a path of the container. What isn't there is taken
/// as it is.
fn follow(view: &View, path: &Path) -> io::Result<PathBuf> {
    let mut resolved = PathBuf::from("/");
    let mut ahead: VecDeque<_> = path.components().map(|part| part.as_os_str().to_owned()).collect();
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::Normal(name)) => {
                let target = view
                    .open(&resolved, OFlags::PATH | OFlags::DIRECTORY)
                    .ok()
                    .and_then(|parent| rustix::fs::readlinkat(&parent, name, Vec::new()).ok());
                let Some(target) = target else {
                    resolved.push(name);
                    continue;
                };
                links += 1;
                if links > MOST_LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                let target = PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    resolved = PathBuf::from("/");
                }
                for part in target.components().rev() {
                    ahead.push_front(part.as_os_str().to_owned());
                }
            }
            Some(Component::ParentDir) => {
                resolved.pop();
            }
            _ => {}
        }
    }
    Ok(resolved)
}

/// Refuses a destination that the container itself couldn't write to.
fn writable(record: &Record, destination: &Path) -> Result<()> {
    let mount = record
        .mounts
        .iter()
        .filter(|entry| destination.starts_with(&entry.point.destination))
        .max_by_key(|entry| entry.point.destination.len());
    match mount {
        Some(entry) if !entry.point.rw => Err(Error::invalid("mounted volume is marked read-only")),
        None if record.host_config.readonly_rootfs => {
            Err(Error::invalid("container rootfs is marked read-only"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_path_is_kept() {
        let base = |path: &str| String::from_utf8(Asked::new(path).base()).unwrap();
        assert_eq!([base("/a/b"), base("a/b/"), base("/a/b/."), base("/")], ["b", "b", ".", "/"]);
        assert_eq!(Asked::new("/a/../../b").whole(), Path::new("/b"));
        assert_eq!(Asked::new("/a/").end, "/");
    }

    #[test]
    fn modes_are_go_s() {
        assert_eq!(go_mode(0o040_755), 0o755 | 1 << 31);
        assert_eq!(go_mode(0o104_711), 0o711 | 1 << 23);
        assert_eq!(go_mode(0o041_777), 0o777 | 1 << 31 | 1 << 20);
        assert_eq!(go_mode(0o020_666), 0o666 | 1 << 26 | 1 << 21);
    }
}
