//! The data disk: found by its serial number, formatted if blank, refused if in doubt, mounted and grown.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use protocol::DiskState;
use rustix::mount::{MountFlags, mount};

use super::ext4::{self, Content};
use super::seed;

/// The module that drives it.
pub(crate) const DRIVER: &str = "virtio_blk";
/// The serial number that the host gives the data disk.
const SERIAL: &str = "sampan-data";
const SEED: &str = "/lib/data-seed.zst";
const TAIL: usize = 64 * 1024;
/// Deleted blocks go back to the host, and an error stops writing at once.
const OPTIONS: &CStr = c"discard,errors=remount-ro";

/// Finds, checks, formats if blank, and mounts the data disk.
pub(crate) fn prepare(target: &Path) -> DiskState {
    let Some(device) = wait_for_device() else { return DiskState::Missing };
    match open_and_mount(&device, target) {
        Ok(state) => state,
        Err(error) => DiskState::Damaged { message: format!("{error:#}") },
    }
}

fn open_and_mount(device: &Path, target: &Path) -> anyhow::Result<DiskState> {
    let mut disk = OpenOptions::new().read(true).write(true).open(device).context("it cannot be opened")?;
    let size = disk.seek(SeekFrom::End(0)).context("its size cannot be told")?;
    let formatted = match look(&disk, size).context("it cannot be read")? {
        Content::Ours(_) => false,
        Content::Blank | Content::HalfFormatted => {
            let seed = File::open(SEED).context("the image has no seed for it")?;
            seed::write(BufReader::new(seed), &disk, size).context("it cannot be formatted")?;
            true
        }
        Content::Damaged(message) => return Ok(DiskState::Damaged { message }),
        Content::Foreign(message) => return Ok(DiskState::Foreign { message }),
    };
    drop(disk);
    fs::create_dir_all(target)?;
    mount(device, target, "ext4", MountFlags::NOATIME, Some(OPTIONS))
        .context("its file system cannot be mounted")?;
    Ok(DiskState::Ready { formatted })
}

/// Looks at a disk, or at a file that could be one.
fn look(disk: &File, size: u64) -> io::Result<Content> {
    let mut head = vec![0; (ext4::HEAD as u64).min(size) as usize];
    disk.read_exact_at(&mut head, 0)?;
    let mut tail = vec![0; (TAIL as u64).min(size) as usize];
    let start = size - tail.len() as u64;
    disk.read_exact_at(&mut tail, start)?;
    Ok(ext4::recognise(&head, &tail, size))
}

/// Makes the mounted file system as large as its disk. It happens on line, in the background of the first
/// seconds: small steps for a kernel that answers requests meanwhile.
pub(crate) fn grow(target: &Path) -> anyhow::Result<()> {
    let Some(device) = find_device(Path::new("/sys/block")) else { return Ok(()) };
    let mut disk = File::open(device)?;
    let size = disk.seek(SeekFrom::End(0))?;
    if let Content::Ours(superblock) = look(&disk, size)? {
        let blocks = size / superblock.block_size;
        // The kernel rounds to what it can use; a difference below one block group is none.
        if blocks > superblock.blocks + 32768 {
            rustix::fs::ext4_ioc_resize_fs(File::open(target)?, blocks)
                .context("the file system cannot grow")?;
            tracing::info!(
                "the data disk's file system has {} MiB now",
                (blocks * superblock.block_size) >> 20
            );
        }
    }
    Ok(())
}

/// A disk's driver has found it when its module is loaded; a slow bus may take a moment more.
fn wait_for_device() -> Option<PathBuf> {
    for _ in 0..100 {
        if let Some(device) = find_device(Path::new("/sys/block")) {
            return Some(device);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

fn find_device(blocks: &Path) -> Option<PathBuf> {
    let mut names: Vec<_> =
        fs::read_dir(blocks).ok()?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    names.sort();
    let ours = names.into_iter().find(|name| {
        fs::read_to_string(blocks.join(name).join("serial")).is_ok_and(|serial| serial.trim() == SERIAL)
    })?;
    Some(Path::new("/dev").join(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_found_by_its_serial_number() {
        let blocks = tempfile::tempdir().unwrap();
        assert_eq!(find_device(blocks.path()), None);
        for (name, serial) in [("vda", "other"), ("vdb", "sampan-data\n")] {
            fs::create_dir(blocks.path().join(name)).unwrap();
            fs::write(blocks.path().join(name).join("serial"), serial).unwrap();
        }
        fs::create_dir(blocks.path().join("loop0")).unwrap();
        assert_eq!(find_device(blocks.path()), Some("/dev/vdb".into()));
    }

    #[test]
    fn a_blank_file_is_a_blank_disk_however_small() {
        for size in [0, 1, 4096, 3 << 20] {
            let disk = tempfile::tempfile().unwrap();
            disk.set_len(size).unwrap();
            assert_eq!(look(&disk, size).unwrap(), Content::Blank, "{size}");
        }
    }
}
