//! The empty file system that a blank disk gets: blocks that `mkfs.ext4` made at build time.
//!
//! The first block, which has the superblock, is written last. Until then the boot sector says that formatting is
//! under way, so that a power cut leaves either a disk that will be formatted again or a whole file system.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use super::ext4::FORMATTING;

const BLOCK: usize = 4096;

/// Writes the seed on a disk.
pub(crate) fn write(compressed: impl io::BufRead, disk: &File, disk_size: u64) -> io::Result<()> {
    let mut seed = zstd::stream::read::Decoder::with_buffer(compressed)?;
    let size = word(&mut seed)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if size > disk_size {
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("the data disk has {disk_size} bytes and needs at least {size}"),
        ));
    }
    let mut mark = vec![0; BLOCK];
    mark[..FORMATTING.len()].copy_from_slice(FORMATTING);
    disk.write_all_at(&mark, 0)?;
    disk.sync_all()?;
    let mut first = vec![0; BLOCK];
    while let Some(offset) = word(&mut seed)? {
        let length = word(&mut seed)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut run = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        seed.read_exact(&mut run)?;
        if offset == 0 {
            first.copy_from_slice(&run[..BLOCK]);
            disk.write_all_at(&run[BLOCK..], BLOCK as u64)?;
        } else {
            disk.write_all_at(&run, offset)?;
        }
    }
    disk.sync_all()?;
    disk.write_all_at(&first, 0)?;
    disk.sync_all()
}

/// The next number, or nothing at the end.
fn word(seed: &mut impl Read) -> io::Result<Option<u64>> {
    let mut bytes = [0; 8];
    match seed.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(u64::from_le_bytes(bytes))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(size: u64, runs: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut seed = size.to_le_bytes().to_vec();
        for (offset, bytes) in runs {
            seed.extend_from_slice(&offset.to_le_bytes());
            seed.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            seed.extend_from_slice(bytes);
        }
        zstd::encode_all(seed.as_slice(), 1).unwrap()
    }

    #[test]
    fn every_run_lands_at_its_place_and_the_mark_is_gone() {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(20 * BLOCK as u64).unwrap();
        let runs = [(0, vec![1; 2 * BLOCK]), (5 * BLOCK as u64, vec![2; BLOCK])];
        write(seed(16 * BLOCK as u64, &runs).as_slice(), &disk, 20 * BLOCK as u64).unwrap();
        let mut content = vec![0; 6 * BLOCK];
        disk.read_exact_at(&mut content, 0).unwrap();
        assert!(content[..2 * BLOCK].iter().all(|byte| *byte == 1));
        assert!(content[2 * BLOCK..5 * BLOCK].iter().all(|byte| *byte == 0));
        assert!(content[5 * BLOCK..].iter().all(|byte| *byte == 2));
    }

    #[test]
    fn a_disk_that_is_too_small_is_not_touched() {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(BLOCK as u64).unwrap();
        let error = write(seed(1 << 20, &[]).as_slice(), &disk, BLOCK as u64).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let mut content = vec![0; BLOCK];
        disk.read_exact_at(&mut content, 0).unwrap();
        assert!(content.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_seed_cut_off_leaves_the_mark() {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(20 * BLOCK as u64).unwrap();
        let mut short = zstd::decode_all(seed(1 << 14, &[(0, vec![1; BLOCK])]).as_slice()).unwrap();
        short.truncate(100);
        let short = zstd::encode_all(short.as_slice(), 1).unwrap();
        assert!(write(short.as_slice(), &disk, 20 * BLOCK as u64).is_err());
        let mut start = vec![0; FORMATTING.len()];
        disk.read_exact_at(&mut start, 0).unwrap();
        assert_eq!(start, FORMATTING);
    }
}
