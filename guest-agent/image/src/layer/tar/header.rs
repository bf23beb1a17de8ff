//! One 512-byte header: v7, ustar and GNU.

use crate::UnpackError;

pub(crate) const BLOCK: usize = 512;

#[derive(Debug)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) modified: i64,
    pub(super) device: (u32, u32),
}

/// Whether these first bytes of a file are a tar header, or the end of an empty archive.
pub(crate) fn is_tar(start: &[u8]) -> bool {
    start
        .first_chunk::<BLOCK>()
        .is_some_and(|block| block.iter().all(|byte| *byte == 0) || checksum_fits(block))
}

fn checksum_fits(block: &[u8; BLOCK]) -> bool {
    let Ok(expected) = number(&block[148..156]) else { return false };
    let field = 148..156;
    let bytes = block.iter().enumerate().map(|(at, byte)| if field.contains(&at) { b' ' } else { *byte });
    // Some old writers summed signed characters.
    let (unsigned, signed) = bytes.fold((0_i64, 0_i64), |(unsigned, signed), byte| {
        (unsigned + i64::from(byte), signed + i64::from(byte.cast_signed()))
    });
    expected == unsigned || expected == signed
}

impl Header {
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Header, UnpackError> {
        if !checksum_fits(block) {
            return Err(UnpackError::Header("wrong checksum"));
        }
        let ustar = &block[257..263] == b"ustar\0";
        let gnu = &block[257..265] == b"ustar  \0";
        let mut path = text(&block[0..100]).to_vec();
        let prefix = text(&block[345..500]);
        if ustar && !prefix.is_empty() {
            path = [prefix, b"/", &path].concat();
        }
        let device = |field: &[u8]| if ustar || gnu { small(field) } else { Ok(0) };
        Ok(Header {
            kind: block[156],
            path,
            link: text(&block[157..257]).to_vec(),
            mode: small(&block[100..108])?,
            uid: small(&block[108..116])?,
            gid: small(&block[116..124])?,
            size: u64::try_from(number(&block[124..136])?)
                .map_err(|_| UnpackError::Header("negative size"))?,
            modified: number(&block[136..148])?,
            device: (device(&block[329..337])?, device(&block[337..345])?),
        })
    }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn small(field: &[u8]) -> Result<u32, UnpackError> {
    u32::try_from(number(field)?).map_err(|_| UnpackError::Header("number out of range"))
}

/// Octal digits, or GNU's base 256 where the first bit is set.
pub(super) fn number(field: &[u8]) -> Result<i64, UnpackError> {
    let invalid = || UnpackError::Header("not a number");
    let Some(first) = field.first() else { return Ok(0) };
    if first & 0x80 != 0 {
        // Two's complement, the sign in the second bit.
        let negative = first & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = if at == 0 { (byte & 0x7f) | if negative { 0x80 } else { 0 } } else { *byte };
            value = value << 8 | i128::from(byte);
        }
        return i64::try_from(value).map_err(|_| invalid());
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    if digits[end..].iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return Err(invalid());
    }
    digits[..end].iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value
            .checked_mul(8)
            .and_then(|value| value.checked_add(i64::from(digit - b'0')))
            .ok_or_else(invalid),
        _ => Err(invalid()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000755\0").unwrap(), 0o755);
        assert_eq!(number(b"    755 ").unwrap(), 0o755);
        assert_eq!(number(b"\0\0\0\0").unwrap(), 0);
        assert_eq!(number(b"\x80\0\0\0\0\0\0\0\0\x01\0\0").unwrap(), 1 << 16);
        assert_eq!(number(&[0xff; 12]).unwrap(), -1);
        assert!(number(b"99").is_err());
        assert!(number(b"12x4").is_err());
    }
}
