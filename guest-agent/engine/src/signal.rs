//! Signals by Docker's names: `TERM`, `SIGTERM`, `15`, `RTMIN+3`.

use crate::error::{Error, Result};

const NAMES: [(&str, i32); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// SIGKILL.
pub(crate) const KILL: i32 = 9;
/// SIGTERM.
pub(crate) const TERM: i32 = 15;

/// First and last real-time signal that programs may use (glibc keeps 32 and 33).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The signal's number.
pub(crate) fn parse(text: &str) -> Result<i32> {
    let invalid = || Error::invalid(format_args!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let real_time = match name {
        "RTMIN" => Some(RTMIN),
        "RTMAX" => Some(RTMAX),
        _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(above), _) => above.parse::<i32>().ok().map(|above| RTMIN + above),
            (_, Some(below)) => below.parse::<i32>().ok().map(|below| RTMAX - below),
            _ => None,
        },
    };
    real_time.filter(|number| (RTMIN..=RTMAX).contains(number)).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals_are_known() {
        for (text, number) in [("TERM", 15), ("sigkill", 9), ("1", 1), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in ["", "0", "65", "SIGNOPE", "RTMIN+40", "-9"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
