//! One entry's header as it is written: ustar, with an extended header in front for what ustar cannot say.

use std::io::{self, Write};

/// Names up to here, in ASCII, go into the header itself.
const MAX_NAME: usize = 100;
/// Seven and eleven octal digits.
const MAX_SMALL: u64 = 0o777_7777;
const MAX_LARGE: u64 = 0o777_7777_7777;

/// Names and values.
pub(super) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// What an entry says of its file.
#[derive(Debug, Clone, Default)]
pub(super) struct Head<'a> {
    pub(super) path: &'a [u8],
    pub(super) link: &'a [u8],
    pub(super) kind: u8,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes of content in the archive.
    pub(super) stored: u64,
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
    pub(super) device: (u32, u32),
    pub(super) xattrs: Attributes,
    /// The file's size, where the content is only what lies between its holes.
    pub(super) sparse: Option<u64>,
}

impl Head<'_> {
    pub(super) fn write(&self, output: &mut dyn Write) -> io::Result<()> {
        let records = self.records();
        if !records.is_empty() {
            let name = short(b"PaxHeaders.0/", self.path);
            let extension = Head {
                path: &name,
                kind: b'x',
                mode: 0o644,
                stored: records.len() as u64,
                ..Head::default()
            };
            output.write_all(&extension.block())?;
            output.write_all(&records)?;
            pad(output, records.len() as u64)?;
        }
        output.write_all(&self.block())
    }

    /// The extended header's records: everything that the block cannot hold.
    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        if let Some(size) = self.sparse {
            record(&mut records, b"GNU.sparse.major", b"1");
            record(&mut records, b"GNU.sparse.minor", b"0");
            record(&mut records, b"GNU.sparse.name", self.path);
            record(&mut records, b"GNU.sparse.realsize", size.to_string().as_bytes());
        } else if !fits(self.path) {
            record(&mut records, b"path", self.path);
        }
        if !fits(self.link) {
            record(&mut records, b"linkpath", self.link);
        }
        if self.nanoseconds != 0 || !time_fits(self.seconds) {
            record(&mut records, b"mtime", time(self.seconds, self.nanoseconds).as_bytes());
        }
        for (key, value, limit) in [
            (&b"uid"[..], u64::from(self.uid), MAX_SMALL),
            (b"gid", u64::from(self.gid), MAX_SMALL),
            (b"size", self.stored, MAX_LARGE),
        ] {
            if value > limit {
                record(&mut records, key, value.to_string().as_bytes());
            }
        }
        for (name, value) in &self.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        records
    }

    fn block(&self) -> [u8; 512] {
        let mut header = tar::Header::new_ustar();
        let within = |value: u64, limit: u64| if value <= limit { value } else { 0 };
        let seconds = u64::try_from(self.seconds).unwrap_or(0);
        header.set_mode(self.mode);
        header.set_uid(within(self.uid.into(), MAX_SMALL));
        header.set_gid(within(self.gid.into(), MAX_SMALL));
        header.set_size(within(self.stored, MAX_LARGE));
        header.set_mtime(within(seconds, MAX_LARGE));
        let name = match self.sparse {
            Some(_) => short(b"GNUSparseFile.0/", self.path),
            None => short(b"", self.path),
        };
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.typeflag = [self.kind];
            ustar.name[..name.len()].copy_from_slice(&name);
            let link = &self.link[..self.link.len().min(MAX_NAME)];
            ustar.linkname[..link.len()].copy_from_slice(link);
            ustar.set_device_major(self.device.0);
            ustar.set_device_minor(self.device.1);
        }
        header.set_cksum();
        *header.as_bytes()
    }
}

/// As much of a name as the block takes; readers of extended headers never look at it.
fn short(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    let path = if prefix.is_empty() || prefix.len() + path.len() <= MAX_NAME {
        path
    } else {
        path.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty()).unwrap_or_default()
    };
    let mut name = [prefix, path].concat();
    name.truncate(MAX_NAME);
    name
}

fn fits(name: &[u8]) -> bool {
    name.len() <= MAX_NAME && name.is_ascii()
}

fn time_fits(seconds: i64) -> bool {
    u64::try_from(seconds).is_ok_and(|seconds| seconds <= MAX_LARGE)
}

/// Decimal seconds; nanoseconds count upwards, so before 1970 the fraction is turned round.
fn time(seconds: i64, nanoseconds: u32) -> String {
    let (sign, whole, fraction) = match (seconds < 0, nanoseconds) {
        (true, 1..) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (false, _) => ("", seconds.unsigned_abs(), nanoseconds),
    };
    match fraction {
        0 => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{}", format!("{fraction:09}").trim_end_matches('0')),
    }
}

/// `length key=value`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + digits(length) {
        length = rest + digits(length);
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// Fills up the last block.
pub(super) fn pad(output: &mut dyn Write, size: u64) -> io::Result<()> {
    let padding = size.wrapping_neg() % 512;
    output.write_all(&[0; 512][..usize::try_from(padding).unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::tar::tests::NoTap;
    use crate::layer::tar::{Reader, Time};

    #[test]
    fn a_records_length_counts_itself() {
        for length in [90, 91, 92, 93, 94, 95, 96, 990, 991, 992, 993] {
            let mut records = Vec::new();
            record(&mut records, b"k", &vec![b'v'; length]);
            let space = records.iter().position(|byte| *byte == b' ').unwrap();
            let said: usize = str::from_utf8(&records[..space]).unwrap().parse().unwrap();
            assert_eq!(said, records.len());
        }
    }

    #[test]
    fn what_ustar_cannot_hold_is_read_back_whole() {
        let path = [b"d/".repeat(90).as_slice(), b"\xff\xfe name"].concat();
        let head = Head {
            path: &path,
            link: &b"t/".repeat(80),
            kind: b'2',
            mode: 0o777,
            uid: 4_000_000_000,
            gid: 2_097_152,
            seconds: -3,
            nanoseconds: 250_000_000,
            xattrs: vec![(b"user.x".to_vec(), b"\0\n=".to_vec())],
            ..Head::default()
        };
        let mut archive = Vec::new();
        head.write(&mut archive).unwrap();
        let entry = Reader::new(archive.as_slice()).next(&mut NoTap).unwrap().unwrap();
        assert_eq!((entry.path, entry.link), (path, b"t/".repeat(80)));
        assert_eq!((entry.uid, entry.gid), (4_000_000_000, 2_097_152));
        assert_eq!(entry.modified, Time { seconds: -3, nanoseconds: 250_000_000 });
        assert_eq!(entry.xattrs, [(b"user.x".to_vec(), b"\0\n=".to_vec())]);
    }
}
