//! Files with holes: the old GNU header with its continuation blocks, and the three forms in extended headers.

use std::io::BufRead;

use super::header::{BLOCK, number};
use super::pax::{self, decimal};
use super::{Entry, Reader, Tap};
use crate::UnpackError;

/// More pieces than any writer makes of one file.
const MAX_SEGMENTS: usize = 1 << 20;

const INVALID: UnpackError = UnpackError::Header("malformed sparse map");

/// Gives the entry its segments, reading the map from the content where the format keeps it there.
pub(super) fn apply<R: BufRead>(
    reader: &mut Reader<R>,
    entry: &mut Entry,
    block: &[u8; BLOCK],
    sparse: &pax::Sparse,
    tap: &mut impl Tap,
) -> Result<(), UnpackError> {
    let (numbers, size) = if block[156] == b'S' {
        old_gnu(reader, block, tap)?
    } else if sparse.major == Some(1) {
        (in_content(reader, tap)?, sparse.size.unwrap_or(0))
    } else if sparse.present && !sparse.numbers.is_empty() {
        (sparse.numbers.clone(), sparse.size.unwrap_or(0))
    } else {
        return Ok(());
    };
    entry.segments = Some(segments(&numbers, size, reader.content)?);
    entry.size = size;
    Ok(())
}

/// Pairs of offset and length, ascending, within the file, and in all as long as the content.
fn segments(numbers: &[u64], size: u64, stored: u64) -> Result<Vec<(u64, u64)>, UnpackError> {
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > MAX_SEGMENTS {
        return Err(INVALID);
    }
    let mut segments = Vec::new();
    let (mut end, mut total) = (0_u64, 0_u64);
    for pair in numbers.chunks_exact(2) {
        let (offset, length) = (pair[0], pair[1]);
        if offset < end {
            return Err(INVALID);
        }
        end = offset.checked_add(length).filter(|end| *end <= size).ok_or(INVALID)?;
        total += length;
        if length > 0 {
            segments.push((offset, length));
        }
    }
    if total == stored { Ok(segments) } else { Err(INVALID) }
}

fn old_gnu<R: BufRead>(
    reader: &mut Reader<R>,
    block: &[u8; BLOCK],
    tap: &mut impl Tap,
) -> Result<(Vec<u64>, u64), UnpackError> {
    let mut numbers = Vec::new();
    let unsigned = |field: &[u8]| u64::try_from(number(field)?).map_err(|_| INVALID);
    let mut read = |entries: &[u8]| -> Result<(), UnpackError> {
        for entry in entries.chunks_exact(24) {
            if entry[0] == 0 {
                break;
            }
            numbers.push(unsigned(&entry[..12])?);
            numbers.push(unsigned(&entry[12..])?);
        }
        if numbers.len() / 2 > MAX_SEGMENTS { Err(INVALID) } else { Ok(()) }
    };
    read(&block[386..482])?;
    let mut extended = block[482] != 0;
    while extended {
        // Continuation blocks stand before the content and do not count as such.
        let next = reader.block(tap)?.ok_or(UnpackError::Truncated)?;
        read(&next[..504])?;
        extended = next[504] != 0;
    }
    Ok((numbers, unsigned(&block[483..495])?))
}

/// Version 1.0: decimal numbers, one a line, at the beginning of the content, padded to a block.
fn in_content<R: BufRead>(reader: &mut Reader<R>, tap: &mut impl Tap) -> Result<Vec<u64>, UnpackError> {
    let mut numbers = Vec::new();
    let mut wanted = None;
    let mut line = Vec::new();
    loop {
        let block = reader.take_block(tap)?;
        for byte in block {
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(INVALID);
                }
                continue;
            }
            let value = decimal(&line)?;
            line.clear();
            match wanted {
                None if value > MAX_SEGMENTS as u64 => return Err(INVALID),
                None => wanted = Some(value * 2),
                Some(_) => numbers.push(value),
            }
            if wanted == Some(numbers.len() as u64) {
                return Ok(numbers);
            }
        }
    }
}
