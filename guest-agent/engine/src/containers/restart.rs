//! When an ended container starts again, and after how long: pure.

use std::time::Duration;

use super::spec::RestartPolicy;
use crate::error::{Error, Result};

/// dockerd's first pause between two runs.
const FIRST: Duration = Duration::from_millis(100);
/// dockerd's longest.
const LONGEST: Duration = Duration::from_secs(60);
/// A run of that length was a good one: the next pause is the first again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) exit_code: i32,
    pub(crate) lasted: Duration,
    /// Somebody stopped or killed it.
    pub(crate) by_hand: bool,
}

/// The pause between two runs, doubling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    /// The pause before the next run.
    pub(crate) fn after(&mut self, lasted: Duration) -> Duration {
        self.0 = if self.0.is_zero() || lasted >= GOOD_RUN { FIRST } else { (self.0 * 2).min(LONGEST) };
        self.0
    }
}

/// Whether the policy wants another run after this one, of which `restarts` were its own.
pub(crate) fn again(policy: &RestartPolicy, ended: Ended, restarts: u64) -> bool {
    match policy.name.as_str() {
        "always" | "unless-stopped" => !ended.by_hand,
        "on-failure" => !ended.by_hand && ended.exit_code != 0 && more(policy, restarts),
        _ => false,
    }
}

/// Whether the policy wants a container to run after the engine came up, that doesn't run.
pub(crate) fn at_boot(policy: &RestartPolicy, ended: Ended, restarts: u64) -> bool {
    match policy.name.as_str() {
        "always" => true,
        "unless-stopped" => !ended.by_hand,
        "on-failure" => !ended.by_hand && ended.exit_code != 0 && more(policy, restarts),
        _ => false,
    }
}

fn more(policy: &RestartPolicy, restarts: u64) -> bool {
    match u64::try_from(policy.maximum_retry_count) {
        Ok(0) | Err(_) => true,
        Ok(most) => restarts < most,
    }
}

/// Refuses a policy that can't be meant, in dockerd's words.
pub(crate) fn check(policy: &RestartPolicy, auto_remove: bool) -> Result<()> {
    let invalid = |text: &str| Err(Error::invalid(format_args!("invalid restart policy: {text}")));
    match policy.name.as_str() {
        "" | "no" | "always" | "unless-stopped" if policy.maximum_retry_count != 0 => {
            return invalid("maximum retry count can only be used with 'on-failure'");
        }
        "on-failure" if policy.maximum_retry_count < 0 => {
            return invalid("maximum retry count cannot be negative");
        }
        "" | "no" | "always" | "unless-stopped" | "on-failure" => {}
        other => {
            return invalid(&format!(
                "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    }
    if auto_remove && !matches!(policy.name.as_str(), "" | "no") {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, maximum_retry_count: i64) -> RestartPolicy {
        RestartPolicy { name: name.into(), maximum_retry_count }
    }

    fn ended(exit_code: i32, by_hand: bool) -> Ended {
        Ended { exit_code, lasted: Duration::from_secs(1), by_hand }
    }

    #[test]
    fn the_pause_doubles_up_to_a_minute_and_begins_anew_after_a_good_run() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let pauses: Vec<u128> = (0..12).map(|_| backoff.after(short).as_millis()).collect();
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[11], 60_000);
        assert_eq!(backoff.after(GOOD_RUN), FIRST);
    }

    #[test]
    fn a_stop_by_hand_holds_until_the_engine_starts_anew_for_always_only() {
        assert!(!again(&policy("always", 0), ended(0, true), 0));
        assert!(at_boot(&policy("always", 0), ended(0, true), 0));
        assert!(!at_boot(&policy("unless-stopped", 0), ended(0, true), 0));
        assert!(at_boot(&policy("unless-stopped", 0), ended(0, false), 0));
    }

    #[test]
    fn on_failure_counts() {
        assert!(!again(&policy("on-failure", 2), ended(0, false), 0));
        assert!(again(&policy("on-failure", 2), ended(1, false), 1));
        assert!(!again(&policy("on-failure", 2), ended(1, false), 2));
        assert!(again(&policy("on-failure", 0), ended(1, false), 1000));
    }

    #[test]
    fn impossible_policies_are_refused() {
        assert!(check(&policy("sometimes", 0), false).is_err());
        assert!(check(&policy("always", 3), false).is_err());
        assert!(check(&policy("always", 0), true).is_err());
        assert!(check(&policy("no", 0), true).is_ok());
    }
}
