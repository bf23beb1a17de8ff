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

    /// Reads what a `since` or `until` takes: besides [`Time::parse`] a day or a local time (ours is UTC), and
    /// a duration before now.
    pub fn parse_query(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(time) = Time::parse(text) {
            return Some(time);
        }
        if let Some(nanos) = go_duration(text) {
            return Some(Time(Time::now().0.saturating_sub(nanos)));
        }
        let local: jiff::civil::DateTime = text.parse().ok()?;
        let stamp = local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        i64::try_from(stamp.as_nanosecond()).ok().map(Time)
    }
}

/// A duration as Go writes it: `24h`, `1h30m`, `1.5s`.
pub(crate) fn go_duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    let mut rest = text;
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and such a span is for ever")]
    (!text.is_empty()).then_some(nanos as i64)
}

/// A span as Go prints it: `1m30s`, `1.5s`, `500ms`.
pub(crate) fn go_span(span: std::time::Duration) -> String {
    let decimal = |nanos: u128, unit: u128| {
        let fraction = format!("{:0width$}", nanos % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{}{point}{fraction}", nanos / unit)
    };
    let nanos = span.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(nanos, 1_000) + "µs",
        1_000_000..1_000_000_000 => decimal(nanos, 1_000_000) + "ms",
        _ => {
            let minutes = span.as_secs() / 60;
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000) + "s";
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
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
    fn spans_are_printed_as_go_prints_them() {
        let printed = |millis| go_span(std::time::Duration::from_millis(millis));
        assert_eq!([printed(500), printed(1000), printed(1500)], ["500ms", "1s", "1.5s"]);
        assert_eq!([printed(90_000), printed(3_600_000)], ["1m30s", "1h0m0s"]);
        assert_eq!(go_span(std::time::Duration::from_nanos(1_050)), "1.05µs");
    }

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
    fn a_query_may_say_how_long_ago_or_which_day() {
        assert_eq!(go_duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(go_duration("1.5s"), Some(1_500_000_000));
        assert_eq!(go_duration("250ms"), Some(250_000_000));
        for text in ["", "h", "1", "1d", "1h-", "ten"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
        let hour_ago = Time::parse_query("1h").unwrap();
        assert!((3599..=3601).contains(&hour_ago.elapsed().as_secs()));
        assert_eq!(Time::parse_query("1970-01-02"), Some(Time(86_400_000_000_000)));
        assert_eq!(Time::parse_query("1970-01-01T00:00:02"), Some(Time(2_000_000_000)));
        assert_eq!(Time::parse_query("tomorrow"), None);
    }

    #[test]
    fn a_time_survives_its_text() {
        let now = Time::now();
        assert_eq!(Time::parse(&now.to_string()), Some(now));
    }
}
