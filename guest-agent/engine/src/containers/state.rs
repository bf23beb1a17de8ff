//! The life of a container as a pure table: no clock, no lock, no input or output.
//!
//! ```text
//!            Started            Pause
//!  created ───────────▶ running ◀────▶ paused        Ended(again)      Started
//!     │                  │   Unpause     │     running ─────────▶ restarting ─▶ running
//!     │ Failed           │ Ended         │ Ended          restarting ─▶ exited (Cancel, Failed)
//!     └────────▶ exited ◀┴───────────────┘
//!  created, exited, dead ─Remove─▶ removing ─RemoveFailed─▶ dead
//! ```

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where a container is in its life. A state carries what exists only in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Never started.
    Created,
    /// Its first process lives.
    Running {
        /// That process.
        pid: i32,
    },
    /// It lives and is frozen.
    Paused {
        /// The first process.
        pid: i32,
    },
    /// It ended, and its policy will start it again.
    Restarting,
    /// It ended.
    Exited,
    /// It is being removed.
    Removing,
    /// Its removal failed half-way; only another removal is possible.
    Dead,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Its first process was started.
    Started {
        /// That process.
        pid: i32,
    },
    /// It could not be started.
    Failed,
    /// It was frozen.
    Pause,
    /// It was thawed.
    Unpause,
    /// Its first process ended.
    Ended {
        /// The policy says that it starts again.
        again: bool,
    },
    /// A start that was due is called off.
    Cancel,
    /// Its removal begins.
    Remove,
    /// Its removal failed.
    RemoveFailed,
}

impl State {
    /// The state after `input`, or why that can't happen now.
    pub(crate) fn next(self, input: Input) -> Result<State, Denied> {
        use {Input as I, State as S};
        match (self, input) {
            (S::Created | S::Exited | S::Restarting, I::Started { pid }) => Ok(S::Running { pid }),
            (S::Created, I::Failed) => Ok(S::Created),
            (S::Exited | S::Restarting, I::Failed) => Ok(S::Exited),
            (S::Running { pid }, I::Pause) => Ok(S::Paused { pid }),
            (S::Paused { pid }, I::Unpause) => Ok(S::Running { pid }),
            (S::Running { .. } | S::Paused { .. }, I::Ended { again: true }) => Ok(S::Restarting),
            (S::Running { .. } | S::Paused { .. }, I::Ended { again: false }) => Ok(S::Exited),
            (S::Restarting, I::Cancel) => Ok(S::Exited),
            (S::Created | S::Exited | S::Dead, I::Remove) => Ok(S::Removing),
            (S::Removing, I::RemoveFailed) => Ok(S::Dead),
            (state, input) => Err(Denied { state, input }),
        }
    }

    /// Docker's word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Created => "created",
            State::Running { .. } => "running",
            State::Paused { .. } => "paused",
            State::Restarting => "restarting",
            State::Exited => "exited",
            State::Removing => "removing",
            State::Dead => "dead",
        }
    }

    /// Its first process, when it lives.
    pub(crate) fn pid(self) -> Option<i32> {
        match self {
            State::Running { pid } | State::Paused { pid } => Some(pid),
            _ => None,
        }
    }

    /// Whether its first process lives.
    pub(crate) fn lives(self) -> bool {
        self.pid().is_some()
    }
}

/// An input that the state has no arrow for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) state: State,
    pub(crate) input: Input,
}

impl Denied {
    /// In dockerd's words.
    pub(crate) fn explain(self, id: &str, name: &str) -> Error {
        use {Input as I, State as S};
        let message = match (self.input, self.state) {
            (I::Started { .. }, S::Paused { .. }) => {
                "cannot start a paused container, try unpause instead".to_owned()
            }
            (I::Started { .. }, S::Removing | S::Dead) => {
                "container is marked for removal and cannot be started".to_owned()
            }
            (I::Pause, S::Paused { .. }) => format!("container {id} is already paused"),
            (I::Pause, S::Restarting) => {
                format!("container {id} is restarting, wait until the container is running")
            }
            (I::Pause, _) => format!("container {id} is not running"),
            (I::Unpause, _) => format!("container {id} is not paused"),
            (I::Remove, S::Removing) => format!("removal of container {name} is already in progress"),
            (I::Remove, S::Paused { .. }) => format!(
                "cannot remove container \"/{name}\": container is paused: unpause and then stop the container before removing or force remove"
            ),
            (I::Remove, state) => format!(
                "cannot remove container \"/{name}\": container is {}: stop the container before removing or force remove",
                state.name()
            ),
            (_, state) => format!("container {id} is {}", state.name()),
        };
        Error::conflict(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 7] = [
        State::Created,
        State::Running { pid: 7 },
        State::Paused { pid: 7 },
        State::Restarting,
        State::Exited,
        State::Removing,
        State::Dead,
    ];
    const INPUTS: [Input; 9] = [
        Input::Started { pid: 9 },
        Input::Failed,
        Input::Pause,
        Input::Unpause,
        Input::Ended { again: false },
        Input::Ended { again: true },
        Input::Cancel,
        Input::Remove,
        Input::RemoveFailed,
    ];

    #[test]
    fn the_table_is_exactly_this() {
        let started = "running";
        // Rows: states; columns: inputs; `-` is denied.
        let table = [
            [started, "created", "-", "-", "-", "-", "-", "removing", "-"],
            ["-", "-", "paused", "-", "exited", "restarting", "-", "-", "-"],
            ["-", "-", "-", "running", "exited", "restarting", "-", "-", "-"],
            [started, "exited", "-", "-", "-", "-", "exited", "-", "-"],
            [started, "exited", "-", "-", "-", "-", "-", "removing", "-"],
            ["-", "-", "-", "-", "-", "-", "-", "-", "dead"],
            ["-", "-", "-", "-", "-", "-", "-", "removing", "-"],
        ];
        for (state, row) in STATES.into_iter().zip(table) {
            for (input, expected) in INPUTS.into_iter().zip(row) {
                let found = state.next(input).map_or("-", State::name);
                assert_eq!(found, expected, "{state:?} after {input:?}");
            }
        }
    }

    #[test]
    fn the_process_stays_the_same_over_a_pause() {
        let paused = State::Running { pid: 7 }.next(Input::Pause).unwrap();
        assert_eq!(paused.pid(), Some(7));
        assert_eq!(paused.next(Input::Unpause).unwrap(), State::Running { pid: 7 });
    }

    #[test]
    fn denials_speak_dockerd_s_words() {
        let denied = |state: State, input| state.next(input).unwrap_err().explain("ID", "web").message;
        assert_eq!(
            denied(State::Running { pid: 1 }, Input::Remove),
            "cannot remove container \"/web\": container is running: stop the container before removing or force remove"
        );
        assert_eq!(denied(State::Removing, Input::Remove), "removal of container web is already in progress");
        assert_eq!(denied(State::Exited, Input::Pause), "container ID is not running");
        assert_eq!(
            denied(State::Paused { pid: 1 }, Input::Started { pid: 2 }),
            "cannot start a paused container, try unpause instead"
        );
    }
}
