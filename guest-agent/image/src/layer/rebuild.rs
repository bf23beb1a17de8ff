//! A layer's tar again, byte for byte: the record's bytes with the files' contents put back between them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::record::{Step, Steps};
use super::{DIFF, HEADERS, REPLACED};

/// Large enough that system calls do not count.
const BUFFER: usize = 256 * 1024;

/// Writes the tar of the layer in `directory`.
pub(crate) fn rebuild(directory: &Path, output: &mut dyn Write) -> io::Result<()> {
    let moves = Moves::read(directory)?;
    let diff = open_directory(&directory.join(DIFF))?;
    let mut steps = Steps::open(&directory.join(HEADERS))?;
    let mut buffer = vec![0; BUFFER];
    let mut open: Option<(Vec<u8>, File)> = None;
    let mut at = 0_u64;
    while let Some(step) = steps.next()? {
        match step {
            Step::Raw(bytes) => output.write_all(&bytes)?,
            Step::Content { path, offset, length } => {
                let file = match &open {
                    Some((known, file)) if *known == path => file,
                    _ => {
                        let file = match moves.find(&path, at) {
                            Some((number, rest)) => {
                                let moved = directory.join(REPLACED).join(number.to_string());
                                if rest.is_empty() {
                                    File::open(moved)?
                                } else {
                                    open_beneath(&open_directory(&moved)?, rest)?
                                }
                            }
                            None => open_beneath(&diff, &path)?,
                        };
                        &open.insert((path, file)).1
                    }
                };
                copy(file, offset, length, &mut buffer, output)?;
            }
            Step::Moved { .. } => open = None,
        }
        at += 1;
    }
    Ok(())
}

fn copy(
    file: &File,
    mut offset: u64,
    mut length: u64,
    buffer: &mut [u8],
    output: &mut dyn Write,
) -> io::Result<()> {
    while length > 0 {
        let wanted = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        let count = file.read_at(&mut buffer[..wanted], offset)?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "file of layer is shorter than recorded",
            ));
        }
        output.write_all(&buffer[..count])?;
        offset += count as u64;
        length -= count as u64;
    }
    Ok(())
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Follows the layer's own links, which lead nowhere else.
fn open_beneath(directory: &OwnedFd, path: &[u8]) -> io::Result<File> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = || {
        rustix::fs::openat2(
            directory,
            path,
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
            Mode::empty(),
            resolve,
        )
    };
    Ok(File::from(super::tree::again(open)?))
}

/// What entries of the same layer replaced: looked for before the directory itself.
struct Moves {
    by_path: HashMap<Vec<u8>, Vec<(u64, u64)>>,
}

impl Moves {
    fn read(directory: &Path) -> io::Result<Moves> {
        let mut by_path = HashMap::<Vec<u8>, Vec<(u64, u64)>>::new();
        if directory.join(REPLACED).exists() {
            let mut steps = Steps::open(&directory.join(HEADERS))?;
            let mut at = 0;
            while let Some(step) = steps.next()? {
                if let Step::Moved { path, number } = step {
                    by_path.entry(path).or_default().push((at, number));
                }
                at += 1;
            }
        }
        Ok(Moves { by_path })
    }

    /// The first move after step `at` of `path` or a directory above it, and the path's rest below that.
    fn find<'a>(&self, path: &'a [u8], at: u64) -> Option<(u64, &'a [u8])> {
        if self.by_path.is_empty() {
            return None;
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        ends.chain([path.len()])
            .filter_map(|end| {
                let moves = self.by_path.get(&path[..end])?;
                let (when, number) = moves.iter().find(|(when, _)| *when > at)?;
                Some((*when, *number, path.get(end + 1..).unwrap_or_default()))
            })
            .min_by_key(|(when, ..)| *when)
            .map(|(_, number, rest)| (number, rest))
    }
}
