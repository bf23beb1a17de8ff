//! POSIX extended headers: `length key=value` records that override the header behind them.

use super::Time;
use crate::UnpackError;

/// What the extensions in front of an entry said.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) long_name: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) modified: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

/// GNU's sparse keys, versions 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) major: Option<u64>,
    pub(super) size: Option<u64>,
    pub(super) numbers: Vec<u64>,
    pub(super) present: bool,
}

const INVALID: UnpackError = UnpackError::Header("malformed extended header");

impl Extensions {
    pub(super) fn read(&mut self, mut data: &[u8]) -> Result<(), UnpackError> {
        while !data.is_empty() && data[0] != 0 {
            let space = data.iter().position(|byte| *byte == b' ').ok_or(INVALID)?;
            let length = usize::try_from(decimal(&data[..space])?).map_err(|_| INVALID)?;
            let record = data.get(space + 1..length).ok_or(INVALID)?;
            let record = record.strip_suffix(b"\n").ok_or(INVALID)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(INVALID)?;
            self.set(&record[..equals], &record[equals + 1..])?;
            data = &data[length..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        let name = |value: &[u8]| {
            if value.contains(&0) {
                Err(INVALID)
            } else {
                Ok(Some(value.to_vec()).filter(|value| !value.is_empty()))
            }
        };
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link = name(value)?,
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(identity(value)?),
            b"gid" => self.gid = Some(identity(value)?),
            b"mtime" => self.modified = Some(time(value)?),
            b"GNU.sparse.name" => self.path = name(value)?,
            b"GNU.sparse.major" => self.sparse.major = Some(decimal(value)?),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                self.sparse.size = Some(decimal(value)?);
                self.sparse.present = true;
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.numbers.push(decimal(value)?),
            b"GNU.sparse.map" => {
                for number in value.split(|byte| *byte == b',') {
                    self.sparse.numbers.push(decimal(number)?);
                }
            }
            _ => {
                if let Some(attribute) = key.strip_prefix(b"SCHILY.xattr.") {
                    if attribute.is_empty() || attribute.contains(&0) {
                        return Err(INVALID);
                    }
                    self.xattrs.push((attribute.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn decimal(digits: &[u8]) -> Result<u64, UnpackError> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(INVALID);
    }
    str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(INVALID)
}

fn identity(value: &[u8]) -> Result<u32, UnpackError> {
    u32::try_from(decimal(value)?).map_err(|_| INVALID)
}

/// Decimal seconds with a fraction, possibly negative.
fn time(value: &[u8]) -> Result<Time, UnpackError> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(decimal(parts.next().unwrap_or_default())?).map_err(|_| INVALID)?;
    let mut nanoseconds = 0;
    let fraction = parts.next().unwrap_or_default();
    for at in 0..9 {
        let digit = fraction.get(at).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return Err(INVALID);
        }
        nanoseconds = nanoseconds * 10 + u32::from(digit - b'0');
    }
    Ok(match (negative, nanoseconds) {
        (false, _) => Time { seconds: whole, nanoseconds },
        (true, 0) => Time { seconds: -whole, nanoseconds },
        // Nanoseconds count upwards from the second below.
        (true, _) => Time { seconds: -whole - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_override_fields_and_carry_attributes() {
        let mut extensions = Extensions::default();
        extensions.read(b"9 path=x\n20 mtime=12.5000001\n26 SCHILY.xattr.user.a=\0\xff\n").unwrap();
        assert_eq!(extensions.path.unwrap(), b"x");
        assert_eq!(extensions.modified.unwrap(), Time { seconds: 12, nanoseconds: 500_000_100 });
        assert_eq!(extensions.xattrs, [(b"user.a".to_vec(), b"\0\xff".to_vec())]);
    }

    #[test]
    fn times_before_1970_count_upwards() {
        assert_eq!(time(b"-1.25").unwrap(), Time { seconds: -2, nanoseconds: 750_000_000 });
        assert_eq!(time(b"-3").unwrap(), Time { seconds: -3, nanoseconds: 0 });
    }

    #[test]
    fn wrong_lengths_are_refused() {
        for data in [&b"99 path=x\n"[..], b"0 a=b\n", b"2 \n", b"x a=b\n", b"7 path\n", b"9 path=xy"] {
            assert!(Extensions::default().read(data).is_err(), "{data:?}");
        }
    }
}
