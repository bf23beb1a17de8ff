//! A writer of the `newc` archive format, which is what the kernel unpacks at boot.
//!
//! Deterministic: entries in the order of their paths, owner root, time zero, inode numbers counted. There are
//! no hard links and no device nodes: the kernel mounts devtmpfs before it needs any.

use std::collections::BTreeMap;

/// What stands at a path.
enum Entry {
    Directory,
    File { mode: u32, content: Vec<u8> },
    Link { target: String },
}

/// An archive in the making.
#[derive(Default)]
pub(crate) struct Archive {
    entries: BTreeMap<String, Entry>,
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

impl Archive {
    /// Adds a directory, and those above it.
    pub(crate) fn directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() {
            return;
        }
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::Directory);
    }

    /// Adds a file, and the directories above it.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        let path = path.trim_matches('/');
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::File { mode, content });
    }

    /// Adds a symbolic link, and the directories above it.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        let path = path.trim_matches('/');
        self.parents(path);
        self.entries.insert(path.to_owned(), Entry::Link { target: target.to_owned() });
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    /// The archive's bytes. A directory's path is a prefix of what it holds, so it sorts before that.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, (path, entry)) in self.entries.iter().enumerate() {
            let inode = index as u32 + 1;
            match entry {
                Entry::Directory => append(&mut out, inode, DIRECTORY | 0o755, path, &[]),
                Entry::File { mode, content } => append(&mut out, inode, REGULAR | mode, path, content),
                Entry::Link { target } => append(&mut out, inode, SYMLINK | 0o777, path, target.as_bytes()),
            }
        }
        append(&mut out, 0, 0, "TRAILER!!!", &[]);
        out
    }
}

fn append(out: &mut Vec<u8>, inode: u32, mode: u32, path: &str, content: &[u8]) {
    let links = 1 + u32::from(mode & 0o170_000 == DIRECTORY);
    let name_length = path.len() as u32 + 1;
    let (uid, gid, time, device, checksum) = (0, 0, 0, 0, 0);
    let fields = [
        inode,
        mode,
        uid,
        gid,
        links,
        time,
        content.len() as u32,
        device,
        device,
        device,
        device,
        name_length,
        checksum,
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn sample(reversed: bool) -> Vec<u8> {
        let mut archive = Archive::default();
        let mut add: Vec<fn(&mut Archive)> = vec![
            |archive| archive.file("/init", 0o755, b"program".to_vec()),
            |archive| archive.file("a/b/c", 0o644, vec![7; 4097]),
            |archive| archive.link("sbin/modprobe", "/init"),
            |archive| archive.directory("/proc"),
        ];
        if reversed {
            add.reverse();
        }
        for step in add {
            step(&mut archive);
        }
        archive.finish()
    }

    #[test]
    fn the_order_of_adding_does_not_change_the_bytes() {
        assert_eq!(sample(false), sample(true));
    }

    #[test]
    fn every_header_starts_on_a_multiple_of_four() {
        let bytes = sample(false);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..6], b"070701");
    }

    #[test]
    fn a_foreign_reader_finds_what_was_added() {
        let directory = tempfile::tempdir().unwrap();
        let cpio = Command::new("cpio")
            .args(["-idm", "--quiet"])
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .spawn();
        let Ok(mut cpio) = cpio else {
            eprintln!("SKIPPED: there is no cpio program here");
            return;
        };
        cpio.stdin.take().unwrap().write_all(&sample(false)).unwrap();
        assert!(cpio.wait().unwrap().success());
        assert_eq!(std::fs::read(directory.path().join("init")).unwrap(), b"program");
        assert_eq!(std::fs::read(directory.path().join("a/b/c")).unwrap(), vec![7; 4097]);
        let link = std::fs::read_link(directory.path().join("sbin/modprobe")).unwrap();
        assert_eq!(link.to_str(), Some("/init"));
    }
}
