//! A file's bytes, with its holes left out where that is worth a map of them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;

use super::header::{Head, pad};
use super::{PackError, failed};

/// Holes of less are written as the zeros that they read as, which every reader of archives understands.
const WORTH: u64 = 1 << 20;
/// More pieces than the reader of layers takes.
const MAX_SEGMENTS: usize = 1 << 20;
const BUFFER: usize = 256 * 1024;

/// Writes one file's entry: exactly the size of `status`, whatever happens to the file meanwhile.
pub(super) fn write(
    file: &OwnedFd,
    status: &Stat,
    mut head: Head<'_>,
    output: &mut dyn Write,
) -> Result<(), PackError> {
    let size = u64::try_from(status.st_size).unwrap_or(0);
    let allocated = u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(512);
    let segments = if size.saturating_sub(allocated) >= WORTH {
        segments(file, size).map_err(|errno| failed("read", head.path)(errno.into()))?
    } else {
        None
    };
    let path = head.path;
    let map = segments.as_deref().map(map).unwrap_or_default();
    let segments = match segments {
        Some(segments) => {
            head.sparse = Some(size);
            segments
        }
        None => vec![(0, size)],
    };
    head.stored = map.len() as u64 + segments.iter().map(|(_, length)| length).sum::<u64>();
    head.write(output).and_then(|()| output.write_all(&map)).map_err(PackError::Write)?;
    let file = File::from(file.try_clone().map_err(failed("open", path))?);
    let mut buffer = vec![0; BUFFER.min(usize::try_from(size).unwrap_or(BUFFER)).max(1)];
    for (offset, length) in segments {
        copy(&file, path, offset, length, &mut buffer, output)?;
    }
    pad(output, head.stored).map_err(PackError::Write)
}

fn copy(
    file: &File,
    path: &[u8],
    mut offset: u64,
    mut length: u64,
    buffer: &mut [u8],
    output: &mut dyn Write,
) -> Result<(), PackError> {
    while length > 0 {
        let wanted = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        let mut count = file.read_at(&mut buffer[..wanted], offset).map_err(failed("read", path))?;
        if count == 0 {
            // It was cut short since its header was written: the archive keeps its form.
            buffer[..wanted].fill(0);
            count = wanted;
        }
        output.write_all(&buffer[..count]).map_err(PackError::Write)?;
        offset += count as u64;
        length -= count as u64;
    }
    Ok(())
}

/// Where the file's bytes lie; `None` if it has no holes or too many.
fn segments(file: &OwnedFd, size: u64) -> Result<Option<Vec<(u64, u64)>>, Errno> {
    let mut segments = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start.min(size),
            // Nothing but a hole behind.
            Err(Errno::NXIO) => break,
            // The file system does not tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
        if end <= start || segments.len() >= MAX_SEGMENTS {
            return Ok(None);
        }
        segments.push((start, end - start));
        at = end;
    }
    Ok((segments != [(0, size)]).then_some(segments))
}

/// GNU's map, version 1.0: numbers in lines, before the bytes, filled up to a block.
fn map(segments: &[(u64, u64)]) -> Vec<u8> {
    let mut map = format!("{}\n", segments.len()).into_bytes();
    for (offset, length) in segments {
        // Writing to memory cannot fail.
        let _: io::Result<()> = write!(map, "{offset}\n{length}\n");
    }
    map.resize(map.len().next_multiple_of(512), 0);
    map
}
