//! A container at rest: what it was asked to be, and how far it has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use network::{EndpointRecord, PortBinding};
use serde::{Deserialize, Serialize};

use super::mounts::MountEntry;
use super::restart::Ended;
use super::spec::{Config, EndpointSettings, HostConfig};
use super::state::State;
use super::view::Health;
use crate::events::Actor;
use crate::time::Time;

/// The whole record. The big halves are shared, so that a new state is a cheap copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    /// Without its slash.
    pub(crate) name: String,
    pub(crate) created: Time,
    /// With its algorithm.
    pub(crate) image_id: String,
    pub(crate) config: Arc<Config>,
    pub(crate) host_config: Arc<HostConfig>,
    /// What was asked of networks, by name.
    pub(crate) networks: Arc<BTreeMap<String, EndpointSettings>>,
    pub(crate) mounts: Arc<Vec<MountEntry>>,
    pub(crate) state: State,
    pub(crate) exit_code: i32,
    pub(crate) error: String,
    pub(crate) oom_killed: bool,
    pub(crate) started_at: Time,
    pub(crate) finished_at: Time,
    /// Restarts by the policy since the last start by hand.
    pub(crate) restart_count: u64,
    /// Somebody stopped or killed it.
    pub(crate) by_hand: bool,
    /// Its places in networks, while it runs.
    #[serde(default)]
    pub(crate) endpoints: Vec<EndpointRecord>,
    pub(crate) ports: Vec<PortBinding>,
    pub(crate) health: Option<Health>,
}

impl Record {
    /// The program and its arguments.
    pub(crate) fn command(&self) -> Vec<String> {
        command(&self.config)
    }

    /// The actor of its events: labels, image and name, and what the event adds.
    pub(crate) fn actor<const N: usize>(&self, more: [(&str, String); N]) -> Actor {
        let mut attributes = self.config.labels.clone();
        attributes.insert("image".into(), self.config.image.clone());
        attributes.insert("name".into(), self.name.clone());
        attributes.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Actor { id: self.id.clone(), attributes }
    }

    /// How its last run ended.
    pub(crate) fn ended(&self) -> Ended {
        let nanos = self.finished_at.unix_nanos().saturating_sub(self.started_at.unix_nanos());
        let lasted = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        Ended { exit_code: self.exit_code, lasted, by_hand: self.by_hand }
    }
}

/// The program and its arguments: entry point, then command.
pub(crate) fn command(config: &Config) -> Vec<String> {
    let words =
        |words: &Option<super::spec::Words>| words.as_ref().map(|words| words.0.clone()).unwrap_or_default();
    let mut command = words(&config.entrypoint);
    command.extend(words(&config.cmd));
    command
}
