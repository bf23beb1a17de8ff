//! The keys that leave an attached terminal: found in what the user types, wherever reads split it.

use crate::error::ApiError;

/// Watches typed bytes for the detach sequence (`ctrl-p,ctrl-q` unless the client says otherwise).
#[derive(Debug)]
pub(crate) struct DetachKeys {
    sequence: Vec<u8>,
    matched: usize,
}

/// What is to be done with a read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// These bytes are for the container.
    Pass(Vec<u8>),
    /// These bytes are for the container, then the user has left.
    Detach(Vec<u8>),
}

impl DetachKeys {
    /// Parses the `detachKeys` parameter: single characters, or `ctrl-` and a letter or one of `@[\]^_`.
    pub(crate) fn parse(text: Option<&str>) -> Result<DetachKeys, ApiError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(DetachKeys { sequence: vec![16, 17], matched: 0 });
        };
        let mut sequence = Vec::new();
        for key in text.split(',') {
            sequence.push(code(key).ok_or_else(|| {
                ApiError::invalid(format!("Invalid detach keys ({text}) provided"))
            })?);
        }
        Ok(DetachKeys { sequence, matched: 0 })
    }

    /// Takes one read. Bytes that may begin the sequence are held back until the next read decides.
    pub(crate) fn feed(&mut self, typed: &[u8]) -> Typed {
        let mut pass = Vec::with_capacity(typed.len() + self.matched);
        for &byte in typed {
            if byte != self.sequence[self.matched] {
                pass.extend_from_slice(&self.sequence[..self.matched]);
                self.matched = 0;
            }
            if byte == self.sequence[self.matched] {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    return Typed::Detach(pass);
                }
            } else {
                pass.push(byte);
            }
        }
        Typed::Pass(pass)
    }

    /// What is held back, for the end of the input.
    pub(crate) fn held(&self) -> &[u8] {
        &self.sequence[..self.matched]
    }
}

fn code(key: &str) -> Option<u8> {
    if let Some(letter) = key.strip_prefix("ctrl-") {
        let [letter] = letter.as_bytes() else { return None };
        return match letter.to_ascii_lowercase() {
            letter @ b'a'..=b'z' => Some(letter - b'a' + 1),
            b'@' => Some(0),
            sign @ b'['..=b'_' => Some(sign - b'[' + 27),
            _ => None,
        };
    }
    match key.as_bytes() {
        [byte] if byte.is_ascii() => Some(*byte),
        _ => match key {
            "DEL" => Some(127),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_keys_detach_across_reads() {
        let mut keys = DetachKeys::parse(None).unwrap();
        assert_eq!(keys.feed(b"ls\x10"), Typed::Pass(b"ls".to_vec()));
        assert_eq!(keys.held(), b"\x10");
        assert_eq!(keys.feed(b"\x11rest"), Typed::Detach(Vec::new()));
    }

    #[test]
    fn a_sequence_that_breaks_off_reaches_the_container() {
        let mut keys = DetachKeys::parse(None).unwrap();
        assert_eq!(keys.feed(b"\x10"), Typed::Pass(Vec::new()));
        assert_eq!(keys.feed(b"x"), Typed::Pass(b"\x10x".to_vec()));
        assert_eq!(keys.feed(b"\x10\x10\x11"), Typed::Detach(b"\x10".to_vec()));
    }

    #[test]
    fn keys_are_parsed_as_docker_writes_them() {
        assert_eq!(DetachKeys::parse(Some("ctrl-a,x")).unwrap().sequence, [1, b'x']);
        assert_eq!(DetachKeys::parse(Some("ctrl-@,ctrl-_,ctrl-[")).unwrap().sequence, [0, 31, 27]);
        for text in ["ctrl-", "ctrl-1", "ab", "a,,b"] {
            assert_eq!(
                DetachKeys::parse(Some(text)).unwrap_err().to_string(),
                format!("Invalid detach keys ({text}) provided")
            );
        }
    }
}
