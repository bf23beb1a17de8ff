//! Docker's two ways to write a point in time in a query: seconds with a fraction, or RFC 3339.

use std::time::{Duration, SystemTime};

use crate::error::ApiError;

/// Parses `1700000000`, `1700000000.000000042` or `2023-11-14T22:13:20Z`; empty and `0` are none.
pub(crate) fn parse(name: &str, text: Option<&str>) -> Result<Option<SystemTime>, ApiError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty() && *text != "0") else {
        return Ok(None);
    };
    unix(text).or_else(|| rfc3339(text)).map(Some).ok_or_else(|| {
        ApiError::invalid(format!("invalid value for \"{name}\": failed to parse value as time: \"{text}\""))
    })
}

fn unix(text: &str) -> Option<SystemTime> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (negative, seconds) = seconds.strip_prefix('-').map_or((false, seconds), |rest| (true, rest));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse::<u32>().ok()?;
    let distance = Duration::new(seconds.parse().ok()?, nanos);
    if negative {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    }
}

fn rfc3339(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Duration {
        parse("since", Some(text)).unwrap().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn seconds_and_their_fraction_are_read() {
        assert_eq!(at("1700000000"), Duration::from_secs(1_700_000_000));
        assert_eq!(at("1700000000.000000042"), Duration::new(1_700_000_000, 42));
        assert_eq!(at("1700000000.5"), Duration::new(1_700_000_000, 500_000_000));
    }

    #[test]
    fn rfc3339_is_read() {
        assert_eq!(at("2023-11-14T22:13:20Z"), Duration::from_secs(1_700_000_000));
        assert_eq!(at("2023-11-14T23:13:20.25+01:00"), Duration::new(1_700_000_000, 250_000_000));
    }

    #[test]
    fn zero_and_nothing_are_no_limit() {
        for text in [None, Some(""), Some("0")] {
            assert_eq!(parse("until", text).unwrap(), None);
        }
    }

    #[test]
    fn other_text_is_refused_by_name() {
        for text in ["yesterday", "1.2.3", "1.0000000001", "-", "99999999999999999999"] {
            let message = parse("since", Some(text)).unwrap_err().to_string();
            assert!(message.contains("\"since\"") && message.contains(text), "{message}");
        }
    }
}
