//! The initramfs: the guest agent as `/init`, the modules and their index, the seed of the data disk.

use crate::cpio::Archive;
use crate::modules::Chosen;

/// Directories that the guest agent mounts on.
const MOUNT_POINTS: [&str; 6] = ["dev", "proc", "sys", "run", "tmp", "data"];

/// Makes the compressed initramfs.
pub(crate) fn initramfs(agent: &[u8], modules: &Chosen, seed: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in MOUNT_POINTS {
        archive.directory(directory);
    }
    archive.file("init", 0o755, agent.to_vec());
    // What the kernel runs when it misses a module.
    archive.link("sbin/modprobe", "/init");
    archive.file("lib/modules/index", 0o644, modules.index.clone().into_bytes());
    for (name, content) in &modules.files {
        archive.file(&format!("lib/modules/{name}"), 0o644, content.clone());
    }
    archive.file("lib/data-seed.zst", 0o644, seed.to_vec());
    compress(&archive.finish())
}

/// Compresses as the kernel's decompressor wants it: the old frame of LZ4, a mark and then blocks with their lengths.
///
/// Of what the kernel takes it is the quickest to unpack by far, and half the archive's size.
fn compress(archive: &[u8]) -> anyhow::Result<Vec<u8>> {
    const MARK: u32 = 0x184c_2102;
    const BLOCK: usize = 8 << 20;
    let best = Some(lz4::block::CompressionMode::HIGHCOMPRESSION(12));
    let mut frame = MARK.to_le_bytes().to_vec();
    for block in archive.chunks(BLOCK) {
        let packed = lz4::block::compress(block, best, false)?;
        frame.extend_from_slice(&u32::try_from(packed.len())?.to_le_bytes());
        frame.extend_from_slice(&packed);
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_foreign_reader_unpacks_what_was_compressed() {
        // More than a block, and not all alike.
        let archive: Vec<u8> = (0..9_000_000_u32).map(|number| (number / 1000) as u8).collect();
        let lz4 =
            Command::new("lz4").args(["-dc", "-q"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut lz4) = lz4 else {
            eprintln!("SKIPPED: there is no lz4 program here");
            return;
        };
        let frame = compress(&archive).unwrap();
        let mut input = lz4.stdin.take().unwrap();
        let feeding = std::thread::spawn(move || input.write_all(&frame));
        let output = lz4.wait_with_output().unwrap();
        feeding.join().unwrap().unwrap();
        assert!(output.stdout == archive, "{} bytes came back", output.stdout.len());
    }
}
