//! Points in time as Docker prints them: RFC 3339 with nanoseconds, and Go's zero time for "never".

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds since 1970, or [`Time::NEVER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

const NEVER_TEXT: &str = "0001-01-01T00:00:00Z";

impl Time {
    /// Go's zero time, earlier than every other.
    pub const NEVER: Time = Time(i64::MIN);

    /// Now.
    pub fn now() -> Self {
        Time::from(std::time::SystemTime::now())
    }

    /// From nanoseconds since 1970.
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        Time(nanos)
    }

    /// Nanoseconds since 1970.
    pub const fn unix_nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970; Go's value for the zero time.
    pub const fn unix(self) -> i64 {
        if self.0 == i64::MIN { -62_135_596_800 } else { self.0.div_euclid(1_000_000_000) }
    }

    /// Whether it is [`Time::NEVER`].
    pub const fn is_never(self) -> bool {
        self.0 == i64::MIN
    }

    /// How long ago it was, zero when it lies ahead.
    pub fn elapsed(self) -> std::time::Duration {
        std::time::Duration::from_nanos(u64::try_from(Time::now().0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// Reads what the API takes: seconds with an optional fraction, or RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(time) = seconds(text) {
            return Some(time);
        }
        if text == NEVER_TEXT {
            return Some(Time::NEVER);
        }
        let stamp: Timestamp = text.parse().ok()?;
        i64::try_from(stamp.as_nanosecond()).ok().map(Time)
    }
}

/// `1700000000` or `1700000000.5`.
fn seconds(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    whole.checked_mul(1_000_000_000)?.checked_add(nanos).map(Time)
}

impl From<std::time::SystemTime> for Time {
    fn from(time: std::time::SystemTime) -> Self {
        let nanos = match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN + 1, |nanos| -nanos),
        };
        Time(nanos)
    }
}

impl Default for Time {
    fn default() -> Self {
        Time::NEVER
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_never() {
            return formatter.write_str(NEVER_TEXT);
        }
        match Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(stamp) => stamp.fmt(formatter),
            Err(_) => formatter.write_str(NEVER_TEXT),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Time::parse(&text).ok_or_else(|| serde::de::Error::custom(format_args!("`{text}` is no time")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_go_s_zero_time_and_comes_back() {
        assert_eq!(Time::NEVER.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Time::parse("0001-01-01T00:00:00Z"), Some(Time::NEVER));
        assert_eq!(Time::NEVER.unix(), -62_135_596_800);
    }

    #[test]
    fn seconds_fractions_and_rfc_3339_are_read() {
        assert_eq!(Time::parse("1.5"), Some(Time(1_500_000_000)));
        assert_eq!(Time::parse("10"), Some(Time(10_000_000_000)));
        assert_eq!(Time::parse("1970-01-01T00:00:02.25Z"), Some(Time(2_250_000_000)));
        assert_eq!(Time::parse("tomorrow"), None);
    }

    #[test]
    fn a_time_survives_its_text() {
        let now = Time::now();
        assert_eq!(Time::parse(&now.to_string()), Some(now));
    }
}
