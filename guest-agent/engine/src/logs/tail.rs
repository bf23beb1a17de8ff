//! Where the last lines of a log begin.
//!
//! A long line is several objects, and only the last one's text ends in a newline: lines are counted, not objects.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::containers::request::StdStream;

const BLOCK: usize = 64 * 1024;

/// The file, by its place among `files`, and the position in it at which the last `lines` begin.
pub(super) fn begin(
    files: &[Arc<File>],
    lines: usize,
    parse: impl Fn(&[u8]) -> Option<(StdStream, bool)>,
) -> io::Result<(usize, u64)> {
    let last = files.len().saturating_sub(1);
    let end = files.last().map_or(Ok(0), |file| file.metadata().map(|metadata| metadata.len()))?;
    let (mut found, mut begin) = (0, (last, end));
    // The streams whose later pieces are taken, so that a piece without a newline goes on there.
    let mut open = [false; 2];
    for (index, file) in files.iter().enumerate().rev() {
        let mut objects = Backward { file, position: file.metadata()?.len(), text: Vec::new() };
        while let Some((position, object)) = objects.previous()? {
            let Some((stream, whole)) = parse(&object) else { continue };
            let open = &mut open[usize::from(stream == StdStream::Stderr)];
            if whole || !*open {
                if found == lines {
                    return Ok(begin);
                }
                found += 1;
                *open = true;
            }
            begin = (index, position);
        }
    }
    Ok(begin)
}

/// A file's lines from its end.
struct Backward<'a> {
    file: &'a File,
    /// Where `text` begins.
    position: u64,
    text: Vec<u8>,
}

impl Backward<'_> {
    /// The line before, without its newline, and where it begins. What has no newline at the end is left out.
    fn previous(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let end = self.text.iter().rposition(|byte| *byte == b'\n');
            let start = end.and_then(|end| self.text[..end].iter().rposition(|byte| *byte == b'\n'));
            match (start, end) {
                (Some(start), Some(end)) => {
                    let line = self.text[start + 1..end].to_vec();
                    self.text.truncate(start + 1);
                    return Ok(Some((self.position + start as u64 + 1, line)));
                }
                (None, Some(end)) if self.position == 0 => {
                    let line = self.text[..end].to_vec();
                    self.text.clear();
                    return Ok(Some((0, line)));
                }
                (None, None) if self.position == 0 => return Ok(None),
                _ => {
                    let length = BLOCK.min(usize::try_from(self.position).unwrap_or(BLOCK));
                    self.position -= length as u64;
                    let mut block = vec![0; length];
                    self.file.read_exact_at(&mut block, self.position)?;
                    block.append(&mut self.text);
                    self.text = block;
                }
            }
        }
    }
}
