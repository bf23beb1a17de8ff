//! Names and ids: how containers are called when nobody calls them, and what a name may be.

use crate::error::{Error, Result};

const QUALITIES: [&str; 64] = [
    "agile", "amber", "ample", "azure", "balmy", "blithe", "bold", "brave", "breezy", "bright", "brisk",
    "buoyant", "calm", "candid", "cheery", "clear", "coral", "crisp", "daring", "deft", "dewy", "eager",
    "fabled", "fair", "fleet", "fond", "frank", "free", "fresh", "gentle", "gilded", "glad", "golden",
    "hale", "hardy", "honest", "ivory", "jaunty", "jolly", "keen", "kindly", "lively", "loyal", "lucid",
    "lucky", "mellow", "merry", "misty", "nimble", "noble", "patient", "plucky", "proud", "quiet", "roving",
    "silver", "steady", "sunlit", "swift", "tidal", "trusty", "vivid", "windy", "witty",
];

const VESSELS: [&str; 72] = [
    "anchor",
    "atoll",
    "barge",
    "bark",
    "barnacle",
    "beacon",
    "bight",
    "bosun",
    "bowsprit",
    "brig",
    "buoy",
    "canoe",
    "capstan",
    "caravel",
    "catboat",
    "clipper",
    "cog",
    "coracle",
    "corvette",
    "cove",
    "current",
    "cutter",
    "dhow",
    "dinghy",
    "dory",
    "ebb",
    "estuary",
    "felucca",
    "ferry",
    "fjord",
    "foresail",
    "galleon",
    "gig",
    "gulf",
    "halyard",
    "harbour",
    "helm",
    "jetty",
    "jib",
    "junk",
    "kayak",
    "keel",
    "ketch",
    "lagoon",
    "lighter",
    "lugger",
    "mainsail",
    "marina",
    "mast",
    "pinnace",
    "pontoon",
    "prow",
    "punt",
    "quay",
    "raft",
    "reef",
    "rudder",
    "sampan",
    "schooner",
    "sextant",
    "shoal",
    "skiff",
    "sloop",
    "spinnaker",
    "tender",
    "tide",
    "tiller",
    "trawler",
    "trimaran",
    "tug",
    "wherry",
    "yawl",
];

/// A fresh id: 64 hexadecimal digits of which the first twelve are no plain number, so that a short id can
/// stand as a host name.
pub(crate) fn id() -> Result<String> {
    loop {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::system(format_args!("no random bytes: {error}")))?;
        let id = hex(&bytes);
        if !id[..12].bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(id);
        }
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// A name of our own for which `taken` says no.
pub(crate) fn generate(mut taken: impl FnMut(&str) -> bool) -> Result<String> {
    let mut attempt = 0u32;
    loop {
        let mut bytes = [0u8; 4];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::system(format_args!("no random bytes: {error}")))?;
        let quality = QUALITIES[usize::from(bytes[0]) % QUALITIES.len()];
        let vessel = VESSELS[usize::from(bytes[1]) % VESSELS.len()];
        let name = if attempt < 4 {
            format!("{quality}_{vessel}")
        } else {
            format!("{quality}_{vessel}{}", u16::from_le_bytes([bytes[2], bytes[3]]))
        };
        if !taken(&name) {
            return Ok(name);
        }
        attempt += 1;
    }
}

/// A wished name without its slash, or why it is none.
pub(crate) fn check(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = bare.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if first && rest && bare.len() > 1 {
        return Ok(bare);
    }
    Err(Error::invalid(format_args!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_64_hex_digits() {
        let id = id().unwrap();
        assert_eq!(id.len(), 64);
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn a_generated_name_passes_our_own_check_and_is_free() {
        let mut refused = 0;
        let name = generate(|_| {
            refused += 1;
            refused < 8
        })
        .unwrap();
        assert_eq!(check(&name).unwrap(), name);
        assert_eq!(refused, 8);
    }

    #[test]
    fn names_are_checked_as_dockerd_does() {
        assert_eq!(check("/web-1.a_b").unwrap(), "web-1.a_b");
        for bad in ["", "/", "a", "-web", "we b", "we/b", "wéb"] {
            let error = check(bad).unwrap_err();
            assert!(error.message.starts_with(&format!("Invalid container name ({bad})")), "{bad}");
        }
    }
}
