//! The portable half of what a container is asked to be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Empty, Words, record, zero};

record! {
    /// The portable half: what the image says and the client overrides.
    pub struct Config {
        /// Host name; the short id when empty.
        pub hostname: String,
        /// NIS domain name.
        pub domainname: String,
        /// `user`, `uid`, `user:group` or `uid:gid`.
        pub user: String,
        /// Attach to stdin (the client's wish; the engine only records it).
        pub attach_stdin: bool,
        /// Attach to stdout.
        pub attach_stdout: bool,
        /// Attach to stderr.
        pub attach_stderr: bool,
        /// `port/protocol` → nothing.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub exposed_ports: BTreeMap<String, Empty>,
        /// Give the container a terminal.
        pub tty: bool,
        /// Keep stdin open without a client.
        pub open_stdin: bool,
        /// Close stdin when the first attached client leaves.
        pub stdin_once: bool,
        /// `NAME=value`.
        pub env: Option<Vec<String>>,
        /// Arguments, or the command where there is no entrypoint.
        pub cmd: Option<Words>,
        /// The health check.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<Healthcheck>,
        /// Windows only; kept as given.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub args_escaped: bool,
        /// The image's name as the client wrote it.
        pub image: String,
        /// Mount points for anonymous volumes.
        pub volumes: Option<BTreeMap<String, Empty>>,
        /// Working directory.
        pub working_dir: String,
        /// Entry point; `[""]` resets the image's.
        pub entrypoint: Option<Words>,
        /// No network at all.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub network_disabled: bool,
        /// MAC address (up to API 1.43).
        #[serde(skip_serializing_if = "String::is_empty")]
        pub mac_address: String,
        /// Build triggers of the image.
        pub on_build: Option<Vec<String>>,
        /// Labels.
        #[serde(serialize_with = "crate::containers::spec::config::map")]
        pub labels: BTreeMap<String, String>,
        /// Signal that asks the container to stop.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub stop_signal: String,
        /// Seconds between that signal and SIGKILL.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub stop_timeout: Option<i64>,
        /// Shell of the shell form.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub shell: Option<Words>,
    }
}

/// Labels are printed as `{}` when there are none.
pub(crate) fn map<S: serde::Serializer>(
    labels: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels)
}

record! {
    /// How to learn whether the container is well. Times are nanoseconds.
    pub struct Healthcheck {
        /// `[]` inherit, `["NONE"]` off, `["CMD", …]` or `["CMD-SHELL", line]`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub test: Option<Words>,
        /// Between two checks.
        #[serde(skip_serializing_if = "zero")]
        pub interval: i64,
        /// For one check.
        #[serde(skip_serializing_if = "zero")]
        pub timeout: i64,
        /// Grace after the start.
        #[serde(skip_serializing_if = "zero")]
        pub start_period: i64,
        /// Between two checks within the start period.
        #[serde(skip_serializing_if = "zero")]
        pub start_interval: i64,
        /// Failures in a row until unhealthy.
        #[serde(skip_serializing_if = "zero")]
        pub retries: i64,
    }
}
