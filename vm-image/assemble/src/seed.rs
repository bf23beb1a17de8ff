//! The empty file system that a blank data disk starts with, small enough to travel in the initramfs.
//!
//! `mkfs.ext4` makes it once, at build time, in a sparse file; only the blocks that are not zero are kept. The
//! guest agent writes them on a blank disk, mounts it and grows the file system on line, so the guest needs no
//! `mkfs`. A seed is: the file system's size, then offset, length and bytes of each run, all little-endian, then
//! compressed with zstd.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

const BLOCK: u64 = 4096;

/// Reads the blocks of a file system image that are not zero.
pub(crate) fn from_image(image: &File) -> anyhow::Result<Vec<u8>> {
    let size = image.metadata()?.len();
    let mut out = size.to_le_bytes().to_vec();
    let mut block = vec![0; BLOCK as usize];
    let mut run: Option<(u64, Vec<u8>)> = None;
    for offset in (0..size / BLOCK).map(|number| number * BLOCK) {
        image.read_exact_at(&mut block, offset)?;
        if block.iter().all(|byte| *byte == 0) {
            finish(&mut out, run.take());
        } else {
            run.get_or_insert_with(|| (offset, Vec::new())).1.extend_from_slice(&block);
        }
    }
    finish(&mut out, run);
    Ok(zstd::encode_all(out.as_slice(), 19)?)
}

fn finish(out: &mut Vec<u8>, run: Option<(u64, Vec<u8>)>) {
    if let Some((offset, bytes)) = run {
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blocks_that_are_not_zero_are_kept_as_runs() {
        let image = tempfile::tempfile().unwrap();
        image.set_len(10 * BLOCK).unwrap();
        image.write_all_at(&[1; 2 * BLOCK as usize], BLOCK).unwrap();
        image.write_all_at(&[2], 9 * BLOCK + 5).unwrap();
        let seed = zstd::decode_all(from_image(&image).unwrap().as_slice()).unwrap();
        let word = |at: usize| u64::from_le_bytes(seed[at..at + 8].try_into().unwrap());
        assert_eq!([word(0), word(8), word(16)], [10 * BLOCK, BLOCK, 2 * BLOCK]);
        let second = 24 + 2 * BLOCK as usize;
        assert_eq!([word(second), word(second + 8)], [9 * BLOCK, BLOCK]);
        assert_eq!(seed.len(), second + 16 + BLOCK as usize);
    }
}
