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

/// Compresses as the kernel's decompressor wants it: one frame, and a window that it has room for.
fn compress(archive: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 19)?;
    encoder.window_log(23)?;
    std::io::Write::write_all(&mut encoder, archive)?;
    Ok(encoder.finish()?)
}
