//! Reading tar archives that may be hostile: one pass, bounded memory, every byte accounted for.
//!
//! Written for layers, so it differs from the tar crate in what matters there: it hands every byte that is not file
//! content to the [`record`](super::record), and reads all four sparse formats.

mod header;
mod pax;
mod sparse;

use std::io::BufRead;

use crate::UnpackError;
use header::Header;
pub(crate) use header::{BLOCK, is_tar};

/// Extended headers and long names are held in memory; Go's reader has the same bound.
const MAX_EXTENSION: u64 = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// A point in time, as file systems keep it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// One entry, all extensions applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of content in the archive.
    pub(crate) stored: u64,
    /// Bytes of the file.
    pub(crate) size: u64,
    pub(crate) modified: Time,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the stored bytes belong, if the file has holes: offsets and lengths, ascending.
    pub(crate) segments: Option<Vec<(u64, u64)>>,
}

/// Receives the bytes that are not content of files.
pub(crate) trait Tap {
    fn raw(&mut self, bytes: &[u8]) -> Result<(), UnpackError>;
}

pub(crate) struct Reader<R> {
    input: R,
    /// Bytes of the current entry's content that were not read yet.
    content: u64,
    /// Zeros behind the content.
    padding: u64,
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(input: R) -> Reader<R> {
        Reader { input, content: 0, padding: 0 }
    }

    /// The next entry, or `None` after the last. The content of the one before must have been read.
    pub(crate) fn next(&mut self, tap: &mut impl Tap) -> Result<Option<Entry>, UnpackError> {
        self.finish(tap)?;
        let mut extensions = pax::Extensions::default();
        loop {
            let Some(block) = self.header_block(tap)? else { return Ok(None) };
            let header = Header::parse(&block)?;
            match header.kind {
                b'x' => {
                    let data = self.extension(header.size, tap)?;
                    extensions.read(&data)?;
                }
                b'L' => extensions.long_name = Some(until_nul(self.extension(header.size, tap)?)),
                b'K' => extensions.long_link = Some(until_nul(self.extension(header.size, tap)?)),
                // Global extended headers and volume labels say nothing about a file; docker ignores them too.
                b'g' | b'V' => drop(self.extension(header.size, tap)?),
                _ => return self.entry(header, &block, extensions, tap).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: Header,
        block: &[u8; BLOCK],
        mut extensions: pax::Extensions,
        tap: &mut impl Tap,
    ) -> Result<Entry, UnpackError> {
        let stored = extensions.size.unwrap_or(header.size);
        let path = extensions.path.take().or(extensions.long_name.take()).unwrap_or(header.path);
        let kind = match header.kind {
            0 | b'0' | b'7' if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            kind => {
                return Err(UnpackError::UnknownType {
                    kind,
                    name: String::from_utf8_lossy(&path).into_owned(),
                });
            }
        };
        // Only files have content, whatever the size field of the others says.
        let stored = if kind == Kind::File { stored } else { 0 };
        self.content = stored;
        self.padding = stored.wrapping_neg() % BLOCK as u64;
        let mut entry = Entry {
            kind,
            path,
            link: extensions.link.take().or(extensions.long_link.take()).unwrap_or(header.link),
            mode: header.mode & 0o7777,
            uid: extensions.uid.unwrap_or(header.uid),
            gid: extensions.gid.unwrap_or(header.gid),
            stored,
            size: stored,
            modified: extensions.modified.unwrap_or(Time { seconds: header.modified, nanoseconds: 0 }),
            device: header.device,
            xattrs: std::mem::take(&mut extensions.xattrs),
            segments: None,
        };
        if kind == Kind::File {
            sparse::apply(self, &mut entry, block, &extensions.sparse, tap)?;
            entry.stored = self.content;
        }
        Ok(entry)
    }

    /// Hands the content, or its next `length` bytes, to `take` in the pieces that it arrives in.
    pub(crate) fn content(
        &mut self,
        mut length: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), UnpackError>,
    ) -> Result<(), UnpackError> {
        if length > self.content {
            return Err(UnpackError::Header("content ends early"));
        }
        while length > 0 {
            let buffer = self.input.fill_buf().map_err(UnpackError::Decompress)?;
            if buffer.is_empty() {
                return Err(UnpackError::Truncated);
            }
            let count = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            take(&buffer[..count])?;
            self.input.consume(count);
            length -= count as u64;
            self.content -= count as u64;
        }
        Ok(())
    }

    /// Hands everything behind the last entry to the tap, so that it can be written again.
    pub(crate) fn trailer(&mut self, tap: &mut impl Tap) -> Result<(), UnpackError> {
        loop {
            let buffer = self.input.fill_buf().map_err(UnpackError::Decompress)?;
            if buffer.is_empty() {
                return Ok(());
            }
            tap.raw(buffer)?;
            let count = buffer.len();
            self.input.consume(count);
        }
    }

    /// Hands what is left of the content to `take`.
    pub(crate) fn rest(
        &mut self,
        take: impl FnMut(&[u8]) -> Result<(), UnpackError>,
    ) -> Result<(), UnpackError> {
        self.content(self.content, take)
    }

    /// Passes over what is left of the current entry.
    fn finish(&mut self, tap: &mut impl Tap) -> Result<(), UnpackError> {
        let rest = self.content;
        self.content(rest, |bytes| tap.raw(bytes))?;
        self.content = std::mem::take(&mut self.padding);
        let padding = self.content;
        self.content(padding, |bytes| tap.raw(bytes))
    }

    /// The next block, or `None` at the end: two blocks of zeros, or no more bytes.
    fn header_block(&mut self, tap: &mut impl Tap) -> Result<Option<[u8; BLOCK]>, UnpackError> {
        let Some(block) = self.block(tap)? else { return Ok(None) };
        if block.iter().any(|byte| *byte != 0) {
            return Ok(Some(block));
        }
        match self.block(tap)? {
            Some(second) if second.iter().any(|byte| *byte != 0) => {
                Err(UnpackError::Header("a single block of zeros"))
            }
            _ => Ok(None),
        }
    }

    fn block(&mut self, tap: &mut impl Tap) -> Result<Option<[u8; BLOCK]>, UnpackError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let buffer = self.input.fill_buf().map_err(UnpackError::Decompress)?;
            if buffer.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(UnpackError::Truncated) };
            }
            let count = buffer.len().min(BLOCK - filled);
            block[filled..filled + count].copy_from_slice(&buffer[..count]);
            self.input.consume(count);
            filled += count;
        }
        tap.raw(&block)?;
        Ok(Some(block))
    }

    /// Content of the current entry that belongs to the format, not to the file.
    fn take_block(&mut self, tap: &mut impl Tap) -> Result<[u8; BLOCK], UnpackError> {
        let block = self.block(tap)?.ok_or(UnpackError::Truncated)?;
        self.content =
            self.content.checked_sub(BLOCK as u64).ok_or(UnpackError::Header("sparse map too long"))?;
        Ok(block)
    }

    fn extension(&mut self, size: u64, tap: &mut impl Tap) -> Result<Vec<u8>, UnpackError> {
        if size > MAX_EXTENSION {
            return Err(UnpackError::TooLarge { limit: MAX_EXTENSION, unit: "bytes of extended header" });
        }
        let mut data = Vec::new();
        let mut left = size.next_multiple_of(BLOCK as u64);
        while left > 0 {
            data.extend_from_slice(&self.block(tap)?.ok_or(UnpackError::Truncated)?);
            left -= BLOCK as u64;
        }
        data.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(data)
    }
}

/// An entry's name as clean text; `None` if it leads outside.
pub(crate) fn clean_text(path: &[u8]) -> Option<String> {
    super::tree::clean(path).map(|path| String::from_utf8_lossy(&path).into_owned())
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) struct NoTap;

    impl Tap for NoTap {
        fn raw(&mut self, _bytes: &[u8]) -> Result<(), UnpackError> {
            Ok(())
        }
    }

    fn first(archive: &[u8]) -> Result<Option<Entry>, UnpackError> {
        Reader::new(archive).next(&mut NoTap)
    }

    #[test]
    fn a_plain_entry_is_read_with_all_its_fields() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(5);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_mtime(1234);
        builder.append_data(&mut header, "a/b", &b"hello"[..]).unwrap();
        let archive = builder.into_inner().unwrap();
        let entry = first(&archive).unwrap().unwrap();
        assert_eq!((entry.kind, entry.path.as_slice()), (Kind::File, &b"a/b"[..]));
        assert_eq!((entry.mode, entry.uid, entry.size, entry.modified.seconds), (0o4755, 7, 5, 1234));
    }

    #[test]
    fn long_names_come_from_gnu_extensions() {
        let long = format!("{}/end", "x".repeat(180));
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        builder.append_data(&mut header, &long, &b""[..]).unwrap();
        assert_eq!(first(&builder.into_inner().unwrap()).unwrap().unwrap().path, long.as_bytes());
    }

    #[test]
    fn garbage_and_wrong_checksums_are_refused() {
        assert!(matches!(first(&[7; 1024]), Err(UnpackError::Header(_))));
        assert!(matches!(first(&[1; 100]), Err(UnpackError::Truncated)));
        assert!(first(&[0; 1024]).unwrap().is_none());
        assert!(first(&[]).unwrap().is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..4096)) {
            let mut reader = Reader::new(bytes.as_slice());
            while let Ok(Some(_)) = reader.next(&mut NoTap) {}
        }
    }
}
