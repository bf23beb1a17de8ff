//! Times gathered, and the table that compares them.

use std::{fmt, time::Duration};

/// The times of one measured thing.
#[derive(Default, Clone)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Whether nothing was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time that `percent` of the runs didn't exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

/// Rows for the closing table.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<String>,
}

impl Report {
    /// A comparison of our times with a peer's or a limit's.
    pub(crate) fn compare(&mut self, what: &str, ours: &Times, other_name: &str, other: &Times) {
        let (mine, theirs) = (ours.percentile(50).as_secs_f64(), other.percentile(50).as_secs_f64());
        self.rows.push(format!(
            "{what:<44} ours {:>9.2} ms (p95 {:>8.2})   {other_name:<18} {:>9.2} ms (p95 {:>8.2})   ours/other {:.3}",
            mine * 1e3,
            ours.percentile(95).as_secs_f64() * 1e3,
            theirs * 1e3,
            other.percentile(95).as_secs_f64() * 1e3,
            mine / theirs
        ));
    }

    /// A figure that stands alone.
    pub(crate) fn figure(&mut self, what: &str, value: &str) {
        self.rows.push(format!("{what:<44} {value}"));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|row| writeln!(to, "{row}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_three_is_the_middle_one() {
        let mut times = Times::default();
        [9, 1, 5].into_iter().for_each(|millis| times.add(Duration::from_millis(millis)));
        assert_eq!(times.percentile(50), Duration::from_millis(5));
        assert_eq!(times.percentile(95), Duration::from_millis(9));
    }
}
