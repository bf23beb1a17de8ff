//! What is on a disk, told from its first bytes: nothing, our file system, or something else.
//!
//! Reads only. The rule is that what is not certainly blank or certainly ours and sound is left as it is.

/// The label that `mkfs.ext4` was given for the seed.
pub(crate) const LABEL: &str = "sampan-data";
/// How much of the disk's beginning [`recognise`] wants to see.
pub(crate) const HEAD: usize = 1 << 20;
/// Stands in the boot sector, which ext4 leaves alone, while the first boot writes the file system.
pub(crate) const FORMATTING: &[u8] = b"sampan: formatting\n";

const SUPERBLOCK: usize = 1024;
const MAGIC: u16 = 0xef53;
const STATE_HAS_ERRORS: u16 = 2;

/// What a disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing at all.
    Blank,
    /// The first boot was cut off while it wrote our file system: there is no data yet.
    HalfFormatted,
    /// Our file system.
    Ours(Superblock),
    /// Our file system, which must not be used.
    Damaged(String),
    /// Something that is not ours.
    Foreign(String),
}

/// What matters of an ext4 superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) blocks: u64,
    pub(crate) block_size: u64,
    label: String,
    state: u16,
    errors: u32,
}

impl Superblock {
    /// The superblock of an ext file system, if there is one.
    fn parse(head: &[u8]) -> Option<Superblock> {
        let block = head.get(SUPERBLOCK..SUPERBLOCK + 1024)?;
        let half = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        if half(0x38) != MAGIC {
            return None;
        }
        let is_64_bit = word(0x60) & 0x80 != 0;
        let high = if is_64_bit { u64::from(word(0x150)) } else { 0 };
        let label = block[0x78..0x88].split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Superblock {
            blocks: high << 32 | u64::from(word(0x4)),
            block_size: 1024 << word(0x18).min(6),
            label: String::from_utf8_lossy(label).into_owned(),
            state: half(0x3a),
            errors: word(0x194),
        })
    }

    fn size(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size)
    }
}

/// Says what a disk of `size` bytes holds whose first and last bytes are given.
pub(crate) fn recognise(head: &[u8], tail: &[u8], size: u64) -> Content {
    if head.starts_with(FORMATTING) {
        return Content::HalfFormatted;
    }
    if let Some(superblock) = Superblock::parse(head) {
        return recognise_file_system(superblock, size);
    }
    if head.iter().chain(tail).all(|byte| *byte == 0) {
        return Content::Blank;
    }
    let known: [(&str, usize, &[u8]); 7] = [
        ("a GPT partition table", 512, b"EFI PART"),
        ("an XFS file system", 0, b"XFSB"),
        ("a btrfs file system", 0x1_0040, b"_BHRfS_M"),
        ("a qcow2 image", 0, b"QFI\xfb"),
        ("an encrypted volume", 0, b"LUKS\xba\xbe"),
        ("a squashfs file system", 0, b"hsqs"),
        ("a partition table", 510, b"\x55\xaa"),
    ];
    let found =
        known.iter().find(|(_, at, magic)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    Content::Foreign(match found {
        Some((name, ..)) => format!("it holds {name}"),
        None => "it holds something unknown".to_owned(),
    })
}

fn recognise_file_system(superblock: Superblock, size: u64) -> Content {
    if superblock.label != LABEL {
        return Content::Foreign(format!("it holds an ext file system labelled `{}`", superblock.label));
    }
    if superblock.state & STATE_HAS_ERRORS != 0 {
        return Content::Damaged(format!(
            "its file system is marked as having errors ({} recorded); repair a copy of it with fsck.ext4",
            superblock.errors
        ));
    }
    if superblock.size() > size {
        return Content::Damaged(format!(
            "it has {size} bytes, and its file system {}: it was cut short",
            superblock.size()
        ));
    }
    Content::Ours(superblock)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 30;

    fn ours() -> Vec<u8> {
        let mut head = vec![0; HEAD];
        let mut put = |at: usize, bytes: &[u8]| head[SUPERBLOCK + at..][..bytes.len()].copy_from_slice(bytes);
        put(0x38, &MAGIC.to_le_bytes());
        put(0x3a, &1u16.to_le_bytes());
        put(0x4, &65536u32.to_le_bytes());
        put(0x18, &2u32.to_le_bytes());
        put(0x60, &0x80u32.to_le_bytes());
        put(0x78, LABEL.as_bytes());
        head
    }

    #[test]
    fn zeros_are_blank_and_one_byte_at_either_end_is_not() {
        let mut head = vec![0; HEAD];
        assert_eq!(recognise(&head, &[0; 512], SIZE), Content::Blank);
        assert!(matches!(recognise(&head, &[0, 1], SIZE), Content::Foreign(_)));
        head[HEAD - 1] = 1;
        assert!(matches!(recognise(&head, &[0; 512], SIZE), Content::Foreign(_)));
    }

    #[test]
    fn our_file_system_is_known_with_its_size() {
        let Content::Ours(superblock) = recognise(&ours(), &[], SIZE) else { panic!("not ours") };
        assert_eq!((superblock.blocks, superblock.block_size), (65536, 4096));
    }

    #[test]
    fn the_error_flag_means_damaged() {
        let mut head = ours();
        head[SUPERBLOCK + 0x3a] |= 2;
        let Content::Damaged(message) = recognise(&head, &[], SIZE) else { panic!("not damaged") };
        assert!(message.contains("errors"), "{message}");
    }

    #[test]
    fn a_disk_cut_short_means_damaged() {
        let Content::Damaged(message) = recognise(&ours(), &[], 1000) else { panic!("not damaged") };
        assert!(message.contains("cut short"), "{message}");
    }

    #[test]
    fn another_label_or_another_content_is_foreign() {
        let mut head = ours();
        head[SUPERBLOCK + 0x78] = b'X';
        assert!(matches!(recognise(&head, &[], SIZE), Content::Foreign(_)));
        let mut table = vec![0; HEAD];
        table[510..512].copy_from_slice(b"\x55\xaa");
        assert_eq!(recognise(&table, &[], SIZE), Content::Foreign("it holds a partition table".into()));
    }

    #[test]
    fn a_cut_off_first_boot_is_known() {
        let mut head = vec![0; HEAD];
        head[..FORMATTING.len()].copy_from_slice(FORMATTING);
        assert_eq!(recognise(&head, &[], SIZE), Content::HalfFormatted);
    }
}
