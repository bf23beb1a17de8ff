//! Health checks: what their results mean, a pure table, and the task that runs them.
//!
//! ```text
//!            well                  `retries` failures in a row
//!  starting ──────▶ healthy ◀────▶ unhealthy
//!     └─────────────────────────────▲   failures within the start period don't count
//! ```
//!
//! A check is an exec like any other: it has an id, events and the container's rights. It runs only while the
//! container runs and isn't frozen; when it stops being run, the container counts as unhealthy, as for dockerd.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::container::{Command, Container};
use super::exec;
use super::spec::{Config, Healthcheck};
use super::view::{Health, HealthResult};
use crate::engine::Engine;
use crate::time::Time;

/// How much of what a check prints is kept.
const OUTPUT: usize = 4096;
/// How many results are kept.
const LOG: usize = 5;

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u64 = 3;

const STARTING: &str = "starting";
const HEALTHY: &str = "healthy";
const UNHEALTHY: &str = "unhealthy";

/// The result of a check that didn't come to its end.
const BROKEN_OFF: i32 = -1;

/// A container's check, with dockerd's defaults for what it doesn't say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u64,
}

impl Check {
    /// The check of a container, if it has one.
    pub(crate) fn of(config: &Config) -> Option<Check> {
        let health = config.healthcheck.as_ref()?;
        let shell = config.shell.as_ref().map(|words| words.0.clone()).filter(|words| !words.is_empty());
        let shell = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        let command = command(health, shell)?;
        let span = |nanos: i64, default: Duration| match u64::try_from(nanos) {
            Ok(0) | Err(_) => default,
            Ok(nanos) => Duration::from_nanos(nanos),
        };
        Some(Check {
            command,
            interval: span(health.interval, INTERVAL),
            timeout: span(health.timeout, TIMEOUT),
            start_period: span(health.start_period, Duration::ZERO),
            start_interval: span(health.start_interval, START_INTERVAL),
            retries: u64::try_from(health.retries).ok().filter(|retries| *retries > 0).unwrap_or(RETRIES),
        })
    }

    /// The pause before the next check.
    fn pause(&self, health: &Health, started: Time) -> Duration {
        if health.status == STARTING && started.elapsed() < self.start_period {
            self.start_interval
        } else {
            self.interval
        }
    }

    /// What a result means. Says the new status when it is another one.
    pub(crate) fn judge(&self, health: &mut Health, started: Time, result: HealthResult) -> Option<String> {
        let before = health.status.clone();
        if result.exit_code == 0 {
            health.failing_streak = 0;
            HEALTHY.clone_into(&mut health.status);
        } else {
            let since = result.start.unix_nanos().saturating_sub(started.unix_nanos());
            let early = u128::try_from(since).unwrap_or(0) < self.start_period.as_nanos();
            if before != STARTING || !early {
                health.failing_streak += 1;
                if health.failing_streak >= self.retries {
                    UNHEALTHY.clone_into(&mut health.status);
                }
            }
        }
        let surplus = (health.log.len() + 1).saturating_sub(LOG);
        health.log.drain(..surplus);
        health.log.push(result);
        (health.status != before).then(|| health.status.clone())
    }
}

fn command(health: &Healthcheck, mut shell: Vec<String>) -> Option<Vec<String>> {
    let (kind, rest) = health.test.as_ref()?.0.split_first()?;
    match kind.as_str() {
        "CMD" if !rest.is_empty() => Some(rest.to_vec()),
        "CMD-SHELL" if !rest.is_empty() => {
            shell.extend_from_slice(rest);
            Some(shell)
        }
        _ => None,
    }
}

/// The health of a container that has just been started.
pub(crate) fn begin(before: Option<Health>) -> Health {
    Health { status: STARTING.to_owned(), failing_streak: 0, ..before.unwrap_or_default() }
}

/// The health of a container that is no longer checked.
pub(crate) fn end(health: &mut Option<Health>) {
    if let Some(health) = health {
        UNHEALTHY.clone_into(&mut health.status);
    }
}

/// The running checks of a container; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Monitor(JoinHandle<()>);

impl Monitor {
    /// Runs the check of `run` again and again, and sends each result to the container's task.
    pub(crate) fn start(
        engine: Engine,
        container: std::sync::Arc<Container>,
        run: u64,
        check: Check,
    ) -> Self {
        Monitor(tokio::spawn(async move {
            loop {
                let record = container.now();
                let Some(health) = &record.health else { return };
                tokio::time::sleep(check.pause(health, record.started_at)).await;
                let result = probe(&engine, &container, &check).await;
                let (heard, done) = tokio::sync::oneshot::channel();
                if container.commands.send(Command::Checked { run, result, heard }).await.is_err() {
                    return;
                }
                // The next pause depends on what this result has made of the container's health.
                let _ = done.await;
            }
        }))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs the check once.
async fn probe(engine: &Engine, container: &Container, check: &Check) -> HealthResult {
    let start = Time::now();
    let mut output = Output::default();
    let probing = exec::probe(engine, container, check.command.clone(), |bytes| output.push(bytes));
    let ended = tokio::time::timeout(check.timeout, probing).await;
    let (exit_code, output) = match ended {
        Ok(Ok(exit_code)) => (exit_code, output.text()),
        Ok(Err(error)) => (BROKEN_OFF, error.message),
        Err(_) => {
            let span = crate::time::go_span(check.timeout);
            let text = output.text();
            let colon = if text.is_empty() { "" } else { ": " };
            (BROKEN_OFF, format!("Health check exceeded timeout ({span}){colon}{text}"))
        }
    };
    HealthResult { start, end: Time::now(), exit_code, output }
}

/// The beginning of what a check prints.
#[derive(Debug, Default)]
struct Output {
    bytes: Vec<u8>,
    cut: bool,
}

impl Output {
    fn push(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(OUTPUT - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        self.cut |= taken < bytes.len();
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        if self.cut { format!("{text}...") } else { text.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::spec::Words;

    fn check(test: &[&str], retries: i64, start_period: i64) -> Option<Check> {
        let test = Some(Words(test.iter().map(|word| (*word).to_owned()).collect()));
        let healthcheck = Some(Healthcheck { test, retries, start_period, ..Healthcheck::default() });
        Check::of(&Config { healthcheck, ..Config::default() })
    }

    fn result(second: i64, exit_code: i32) -> HealthResult {
        let start = Time::from_unix_nanos(second * 1_000_000_000);
        HealthResult { start, end: start, exit_code, output: String::new() }
    }

    #[test]
    fn a_test_is_a_command_a_shell_line_or_none() {
        assert_eq!(check(&["CMD", "true"], 0, 0).unwrap().command, ["true"]);
        assert_eq!(check(&["CMD-SHELL", "exit 1"], 0, 0).unwrap().command, ["/bin/sh", "-c", "exit 1"]);
        assert_eq!(check(&["NONE"], 0, 0), None);
        assert_eq!(check(&[], 0, 0), None);
    }

    #[test]
    fn failures_count_after_the_start_period_and_one_success_forgets_them() {
        let check = check(&["CMD", "x"], 2, 10_000_000_000).unwrap();
        let started = Time::from_unix_nanos(0);
        let mut health = begin(None);
        assert_eq!(check.judge(&mut health, started, result(9, 1)), None);
        assert_eq!(health.failing_streak, 0);
        assert_eq!(check.judge(&mut health, started, result(10, 1)), None);
        assert_eq!(check.judge(&mut health, started, result(11, 1)).unwrap(), "unhealthy");
        assert_eq!(check.judge(&mut health, started, result(12, 0)).unwrap(), "healthy");
        assert_eq!(health.failing_streak, 0);
        assert_eq!(check.judge(&mut health, started, result(13, 7)), None);
        assert_eq!((health.status.as_str(), health.failing_streak), ("healthy", 1));
    }

    #[test]
    fn a_failure_within_the_start_period_counts_once_it_was_healthy() {
        let check = check(&["CMD", "x"], 1, 10_000_000_000).unwrap();
        let mut health = begin(None);
        let started = Time::from_unix_nanos(0);
        assert_eq!(check.judge(&mut health, started, result(1, 0)).unwrap(), "healthy");
        assert_eq!(check.judge(&mut health, started, result(2, 1)).unwrap(), "unhealthy");
    }

    #[test]
    fn the_last_five_results_are_kept() {
        let check = check(&["CMD", "x"], 1, 0).unwrap();
        let mut health = begin(None);
        for second in 0..9 {
            check.judge(&mut health, Time::from_unix_nanos(0), result(second, 0));
        }
        let kept: Vec<i64> = health.log.iter().map(|result| result.start.unix()).collect();
        assert_eq!(kept, [4, 5, 6, 7, 8]);
    }

    #[test]
    fn output_is_cut() {
        let mut output = Output::default();
        output.push(&[b'x'; 4000]);
        output.push(&[b'y'; 96]);
        assert_eq!(output.text().len(), 4096);
        output.push(b"z");
        assert!(output.text().ends_with("y..."));
    }
}
