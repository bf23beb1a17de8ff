//! The VM's life as a pure table: no clock, no lock, no input or output.
//!
//! ```text
//!            Start                Reached(Engine)
//!  Stopped ────────▶ Starting ─────────────────────▶ Running ──Ended(off)──▶ Stopped
//!     ▲      ┌─▶       │  │ BootFailed, first try       │ Ended(crash)
//!     │      │         │  └──▶ Starting, second try     ▼
//!     │      └─Pause───┼─────────────────────────── Restarting ──too often──▶ Failed
//!     │        Over    │ BootFailed again, or not worth a try ─────────────▶ Failed ──Start──▶ Starting
//!     └── Ended ── Stopping ◀── Stop
//! ```
//!
//! [`next`](State::next) says where an input leads and what the owning task has to do there. What is denied
//! leaves the state as it was.

use std::time::Duration;

use crate::model::{Failure, FailureKind, Stage};

/// A boot that fails is tried once more: firmware and kernel under emulation do fail now and then.
pub const BOOT_ATTEMPTS: u32 = 2;

/// Crashes in a row after which the VM is given up.
pub const MAX_CRASHES: u32 = 5;

/// A VM that ran this long has recovered: its crashes are forgotten.
pub const STEADY_AFTER: Duration = Duration::from_secs(60);

/// Where the VM stands. `crashes` counts those in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing runs.
    Stopped,
    /// On its way up.
    Starting {
        /// What is being done now.
        stage: Stage,
        /// Which try, from 1.
        attempt: u32,
        /// Crashes in a row so far.
        crashes: u32,
    },
    /// The Docker API answers.
    Running {
        /// Crashes in a row so far.
        crashes: u32,
    },
    /// On its way down.
    Stopping,
    /// Ended by itself; waiting before the next try.
    Restarting {
        /// How long the pause is.
        delay: Duration,
        /// Why it ended.
        cause: Failure,
        /// Crashes in a row so far.
        crashes: u32,
    },
    /// Given up.
    Failed {
        /// Why.
        cause: Failure,
    },
}

/// What happens to the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Someone wants it up.
    Start,
    /// Someone wants it down.
    Stop,
    /// The boot has finished a stage.
    Reached(Stage),
    /// The boot came to nothing; no machine is left.
    BootFailed(Failure),
    /// The machine is gone: by a power-off.
    PoweredOff,
    /// The machine is gone: by itself.
    Crashed(Failure),
    /// It has run for [`STEADY_AFTER`].
    Steady,
    /// The pause before a restart is over.
    PauseOver,
}

/// What the owning task has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Begin a boot.
    Boot,
    /// Break the boot off, and report `PoweredOff` when nothing is left of it.
    Cancel,
    /// Shut the machine down, and report `PoweredOff` when it is gone.
    ShutDown,
    /// Wait, then report `PauseOver`.
    Pause(Duration),
}

/// An input that makes no sense in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` means nothing to a VM that is {state}")]
pub struct Denied {
    input: &'static str,
    state: &'static str,
}

impl State {
    /// Where `input` leads, and what is to be done there.
    pub fn next(self, input: Input) -> Result<(State, Action), Denied> {
        use Input as I;
        use State as S;
        let first = |crashes| S::Starting { stage: Stage::Prepare, attempt: 1, crashes };
        Ok(match (self, input) {
            (S::Stopped | S::Failed { .. }, I::Start) => (first(0), Action::Boot),
            (S::Restarting { .. }, I::Start) => (first(0), Action::Boot),
            (S::Restarting { crashes, .. }, I::PauseOver) => (first(crashes), Action::Boot),
            (state @ (S::Starting { .. } | S::Running { .. }), I::Start) => (state, Action::Nothing),

            (S::Starting { crashes, .. }, I::Reached(Stage::Engine)) => {
                (S::Running { crashes }, Action::Nothing)
            }
            (S::Starting { attempt, crashes, .. }, I::Reached(done)) => {
                (S::Starting { stage: after(done), attempt, crashes }, Action::Nothing)
            }
            (S::Starting { attempt, crashes, .. }, I::BootFailed(cause)) => {
                if attempt < BOOT_ATTEMPTS && worth_another_try(cause.kind) {
                    (S::Starting { stage: Stage::Prepare, attempt: attempt + 1, crashes }, Action::Boot)
                } else {
                    (S::Failed { cause }, Action::Nothing)
                }
            }

            (S::Running { .. }, I::Steady) => (S::Running { crashes: 0 }, Action::Nothing),
            (S::Running { .. }, I::PoweredOff) => (S::Stopped, Action::Nothing),
            (S::Running { crashes }, I::Crashed(cause)) if crashes + 1 >= MAX_CRASHES => {
                (S::Failed { cause }, Action::Nothing)
            }
            (S::Running { crashes }, I::Crashed(cause)) => {
                let delay = backoff(crashes);
                (S::Restarting { delay, cause, crashes: crashes + 1 }, Action::Pause(delay))
            }

            (S::Starting { .. }, I::Stop) => (S::Stopping, Action::Cancel),
            (S::Running { .. }, I::Stop) => (S::Stopping, Action::ShutDown),
            (S::Restarting { .. } | S::Failed { .. } | S::Stopped, I::Stop) => (S::Stopped, Action::Nothing),
            (S::Stopping, I::Stop) => (S::Stopping, Action::Nothing),
            // A boot that is being broken off may still say what it got to.
            (S::Stopping, I::Reached(_)) => (S::Stopping, Action::Nothing),
            (S::Stopping, I::PoweredOff | I::Crashed(_) | I::BootFailed(_)) => (S::Stopped, Action::Nothing),

            (state, input) => return Err(Denied { input: input.verb(), state: state.name() }),
        })
    }

    /// The state's name, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Starting { .. } => "starting",
            State::Running { .. } => "running",
            State::Stopping => "stopping",
            State::Restarting { .. } => "restarting",
            State::Failed { .. } => "failed",
        }
    }
}

impl Input {
    fn verb(&self) -> &'static str {
        match self {
            Input::Start => "start",
            Input::Stop => "stop",
            Input::Reached(_) => "reached a stage",
            Input::BootFailed(_) => "boot failed",
            Input::PoweredOff => "powered off",
            Input::Crashed(_) => "crashed",
            Input::Steady => "steady",
            Input::PauseOver => "pause over",
        }
    }
}

/// The stage that follows one that is done. After the engine there is none: the VM runs then.
fn after(done: Stage) -> Stage {
    match done {
        Stage::Prepare => Stage::Boot,
        Stage::Boot => Stage::Agent,
        Stage::Agent | Stage::Engine => Stage::Engine,
    }
}

/// Only what may go better the next time is tried again; a missing file stays missing.
fn worth_another_try(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::BootFailed | FailureKind::Crashed)
}

/// 1, 2, 4, 8 … seconds.
fn backoff(crashes: u32) -> Duration {
    Duration::from_secs(1 << crashes.min(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: FailureKind) -> Failure {
        Failure::new(kind, "because")
    }

    fn states() -> Vec<State> {
        let cause = failure(FailureKind::Crashed);
        let mut all = vec![State::Stopped, State::Stopping, State::Failed { cause: cause.clone() }];
        for crashes in 0..=MAX_CRASHES {
            all.push(State::Running { crashes });
            all.push(State::Restarting { delay: backoff(crashes), cause: cause.clone(), crashes });
            for stage in Stage::ALL {
                for attempt in 1..=BOOT_ATTEMPTS {
                    all.push(State::Starting { stage, attempt, crashes });
                }
            }
        }
        all
    }

    fn inputs() -> Vec<Input> {
        let mut all = vec![Input::Start, Input::Stop, Input::PoweredOff, Input::Steady, Input::PauseOver];
        all.extend(Stage::ALL.map(Input::Reached));
        for kind in [FailureKind::BootFailed, FailureKind::MissingDependency, FailureKind::Crashed] {
            all.push(Input::BootFailed(failure(kind)));
            all.push(Input::Crashed(failure(kind)));
        }
        all
    }

    /// Every pair of state and input, by the names of where it leads: what isn't listed is denied.
    #[test]
    fn the_whole_table_is_as_drawn() {
        for state in states() {
            for input in inputs() {
                let got = state.clone().next(input.clone()).map(|(next, _)| next.name());
                let retry = matches!(&state, State::Starting { attempt, .. } if *attempt < BOOT_ATTEMPTS);
                let last = matches!(&state, State::Running { crashes } if crashes + 1 >= MAX_CRASHES);
                let want = match (state.name(), input.verb()) {
                    ("stopped" | "failed" | "restarting" | "starting", "start") => Some("starting"),
                    ("running", "start" | "steady") => Some("running"),
                    ("stopped" | "failed" | "restarting", "stop") => Some("stopped"),
                    ("starting" | "running" | "stopping", "stop") => Some("stopping"),
                    ("starting", "reached a stage") => {
                        Some(if input == Input::Reached(Stage::Engine) { "running" } else { "starting" })
                    }
                    ("starting", "boot failed") => {
                        let missing = input == Input::BootFailed(failure(FailureKind::MissingDependency));
                        Some(if retry && !missing { "starting" } else { "failed" })
                    }
                    ("running", "powered off") => Some("stopped"),
                    ("running", "crashed") => Some(if last { "failed" } else { "restarting" }),
                    ("restarting", "pause over") => Some("starting"),
                    ("stopping", "reached a stage") => Some("stopping"),
                    ("stopping", "powered off" | "crashed" | "boot failed") => Some("stopped"),
                    _ => None,
                };
                assert_eq!(got.ok(), want, "{state:?} on {input:?}");
            }
        }
    }

    #[test]
    fn every_way_into_stopping_has_an_end_to_wait_for() {
        for state in states() {
            if let Ok((State::Stopping, action)) = state.clone().next(Input::Stop) {
                let expected = match state {
                    State::Starting { .. } => Action::Cancel,
                    State::Running { .. } => Action::ShutDown,
                    _ => Action::Nothing,
                };
                assert_eq!(action, expected, "{state:?}");
            }
        }
    }

    #[test]
    fn a_vm_that_keeps_crashing_is_given_up_after_growing_pauses() {
        let mut state = State::Running { crashes: 0 };
        let mut pauses = Vec::new();
        while let (State::Restarting { delay, .. }, Action::Pause(pause)) =
            state.clone().next(Input::Crashed(failure(FailureKind::Crashed))).unwrap()
        {
            assert_eq!(delay, pause);
            pauses.push(pause.as_secs());
            let (restarting, _) = state.next(Input::Crashed(failure(FailureKind::Crashed))).unwrap();
            let (starting, action) = restarting.next(Input::PauseOver).unwrap();
            assert_eq!(action, Action::Boot);
            (state, _) = starting.next(Input::Reached(Stage::Engine)).unwrap();
        }
        assert_eq!(pauses, [1, 2, 4, 8]);
    }

    #[test]
    fn a_steady_run_forgives_crashes() {
        let (state, _) = State::Running { crashes: 4 }.next(Input::Steady).unwrap();
        assert_eq!(state, State::Running { crashes: 0 });
    }

    #[test]
    fn a_denial_names_input_and_state() {
        let denied = State::Stopped.next(Input::PauseOver).unwrap_err();
        assert_eq!(denied.to_string(), "`pause over` means nothing to a VM that is stopped");
    }
}
