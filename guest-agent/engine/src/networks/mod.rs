//! Networks: the three that always exist, `bridge`, `host` and `none`, and those that users make.
//!
//! A user's network is a record in the store; its bridge is the `network` crate's affair and made anew from the
//! record when the engine starts. Which container is on which network stands in the containers' records.

mod create;
mod list;
mod members;
mod request;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

pub use request::{ConnectNetwork, CreateNetwork, DisconnectNetwork};
pub use view::{ConfigFrom, Ipam, IpamConfig, Network, NetworkContainer, NetworkCreated, NetworksPruned};

use crate::error::{Error, Result};
use crate::time::Time;

/// The kind of a user's network in the store.
pub(crate) const KIND: &str = "user-network";

/// The networks' half of the engine; see [`crate::Engine::networks`].
#[derive(Clone)]
pub struct Networks {
    pub(crate) engine: crate::Engine,
}

/// The ids of the networks that always exist.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Builtin {
    pub(crate) bridge: String,
    pub(crate) host: String,
    pub(crate) none: String,
    pub(crate) created: Time,
    /// The bridge as it was made last, so that its subnet stays.
    pub(crate) record: Option<network::NetworkRecord>,
}

/// A user's network at rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UserNetwork {
    pub(crate) created: Time,
    pub(crate) attachable: bool,
    pub(crate) ipam: Ipam,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// What its bridge is made from; with the subnets that it got, so that they stay.
    pub(crate) spec: network::NetworkSpec,
    /// The user chose the subnets, so containers may choose their addresses.
    pub(crate) own_subnets: bool,
}

/// The users' networks, as they are now, by id. Those in the making hold their name only.
#[derive(Default)]
pub(crate) struct Table(Mutex<Known>);

#[derive(Default)]
struct Known {
    networks: BTreeMap<String, Arc<UserNetwork>>,
    /// Name → id, also of those in the making.
    names: BTreeMap<String, String>,
}

impl Table {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a network that an earlier run of the engine made.
    pub(crate) fn adopt(&self, network: UserNetwork) {
        let mut known = self.known();
        known.names.insert(network.spec.name.clone(), network.spec.id.clone());
        known.networks.insert(network.spec.id.clone(), Arc::new(network));
    }

    fn all(&self) -> Vec<Arc<UserNetwork>> {
        self.known().networks.values().cloned().collect()
    }

    /// Takes a name for a network in the making.
    fn reserve(&self, name: &str, id: &str) -> Result<()> {
        let mut known = self.known();
        if known.names.contains_key(name) {
            return Err(Error::conflict(format_args!("network with name {name} already exists")));
        }
        known.names.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    fn forget(&self, name: &str, id: &str) {
        let mut known = self.known();
        known.networks.remove(id);
        known.names.remove(name);
    }

    /// The network of that name, id or beginning of an id; `fixed` are the ids of those that always exist.
    fn find(&self, name: &str, fixed: &Builtin) -> Result<Which> {
        let known = self.known();
        let builtin = [("bridge", &fixed.bridge), ("host", &fixed.host), ("none", &fixed.none)];
        let is = |found: &(&'static str, &String)| found.0 == name || found.1 == name;
        if let Some((name, _)) = builtin.into_iter().find(is) {
            return Ok(Which::Builtin(name));
        }
        let exact = known.networks.get(name).or_else(|| known.networks.get(known.names.get(name)?));
        if let Some(network) = exact {
            return Ok(Which::User(network.clone()));
        }
        let missing = || Error::not_found(format_args!("network {name} not found"));
        if name.is_empty() {
            return Err(missing());
        }
        let begins = known
            .networks
            .range(name.to_owned()..)
            .take_while(|(id, _)| id.starts_with(name))
            .map(|(_, network)| Which::User(network.clone()));
        let fixed = builtin.into_iter().filter(|(_, id)| id.starts_with(name));
        let mut matching: Vec<Which> = begins.chain(fixed.map(|(name, _)| Which::Builtin(name))).collect();
        match matching.len() {
            0 => Err(missing()),
            1 => Ok(matching.remove(0)),
            count => Err(Error::invalid(format_args!(
                "network {name} is ambiguous ({count} matches found based on ID prefix)"
            ))),
        }
    }
}

/// A network that was looked for.
#[derive(Clone)]
pub(crate) enum Which {
    /// `bridge`, `host` or `none`.
    Builtin(&'static str),
    User(Arc<UserNetwork>),
}

impl Which {
    pub(crate) fn name(&self) -> &str {
        match self {
            Which::Builtin(name) => name,
            Which::User(network) => &network.spec.name,
        }
    }

    /// Its driver, as dockerd calls it.
    pub(crate) fn driver(&self) -> &'static str {
        match self {
            Which::Builtin("host") => "host",
            Which::Builtin("none") => "null",
            _ => "bridge",
        }
    }
}

/// A failure of networks in the engine's terms.
pub(crate) fn failure(error: &network::NetworkError) -> Error {
    use network::NetworkError as N;
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        let text = source.to_string();
        // Some messages hold their cause already, as dockerd's do.
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = source.source();
    }
    match error {
        N::NoSuchNetwork(_) | N::NoSuchEndpoint(_) => Error::not_found(message),
        N::AddressOutside { .. } | N::InvalidLinkName(_) | N::UnusableSubnet { .. } => {
            Error::invalid(message)
        }
        N::NetworkInUse { .. } | N::PoolOverlaps | N::AddressInUse(_) => Error::forbidden(message),
        _ => Error::system(message),
    }
}

impl Networks {
    fn builtin(&self) -> &Builtin {
        &self.engine.inner().builtin
    }

    fn table(&self) -> &Table {
        &self.engine.inner().user_networks
    }

    /// The mechanism; none when the engine was started without a bridge.
    fn mechanism(&self) -> Result<network::Networks> {
        let networks = self.engine.inner().networks.clone();
        networks.ok_or_else(|| Error::not_found("network bridge not found"))
    }

    /// The network of that name, id or beginning of an id.
    pub(crate) fn find(&self, name: &str) -> Result<Which> {
        let found = self.table().find(name, self.builtin())?;
        match found {
            Which::Builtin("bridge") if self.builtin().record.is_none() => {
                Err(Error::not_found(format_args!("network {name} not found")))
            }
            found => Ok(found),
        }
    }

    /// Its id.
    pub(crate) fn id(&self, network: &Which) -> String {
        match network {
            Which::Builtin("bridge") => self.builtin().bridge.clone(),
            Which::Builtin("host") => self.builtin().host.clone(),
            Which::Builtin(_) => self.builtin().none.clone(),
            Which::User(network) => network.spec.id.clone(),
        }
    }

    /// The address by which containers reach this machine.
    pub(crate) fn host_gateway(&self) -> String {
        let record = self.builtin().record.as_ref();
        record
            .and_then(|record| record.subnets.first())
            .map(|subnet| subnet.gateway.to_string())
            .unwrap_or_default()
    }

    fn event(&self, action: &str, network: &Which) {
        let attributes = [
            ("name".to_owned(), network.name().to_owned()),
            ("type".to_owned(), network.driver().to_owned()),
        ];
        let actor = crate::events::Actor { id: self.id(network), attributes: attributes.into() };
        self.engine.inner().events.publish("network", action, actor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builtin() -> Builtin {
        Builtin {
            bridge: "b".repeat(64),
            host: "c".repeat(64),
            none: "d".repeat(64),
            created: Time::now(),
            record: None,
        }
    }

    fn network(name: &str, id: &str) -> UserNetwork {
        UserNetwork {
            created: Time::now(),
            attachable: false,
            ipam: Ipam::default(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            spec: network::NetworkSpec { id: id.into(), name: name.into(), ..Default::default() },
            own_subnets: false,
        }
    }

    #[test]
    fn a_network_is_found_by_name_id_and_unambiguous_beginning() {
        let table = Table::default();
        table.adopt(network("back", "a1aa"));
        table.adopt(network("front", "a1bb"));
        let name = |wanted: &str| table.find(wanted, &builtin()).map(|found| found.name().to_owned());
        assert_eq!(name("back").unwrap(), "back");
        assert_eq!(name("a1bb").unwrap(), "front");
        assert_eq!(name("a1b").unwrap(), "front");
        assert_eq!(name("bb").unwrap(), "bridge");
        assert_eq!(
            name("a1").unwrap_err().message,
            "network a1 is ambiguous (2 matches found based on ID prefix)"
        );
        assert_eq!(name("x").unwrap_err().message, "network x not found");
        assert_eq!(name("").unwrap_err().message, "network  not found");
    }

    #[test]
    fn a_name_in_the_making_is_taken_and_not_found() {
        let table = Table::default();
        table.reserve("back", "1").unwrap();
        assert_eq!(table.reserve("back", "2").unwrap_err().message, "network with name back already exists");
        assert!(table.find("back", &builtin()).is_err());
        table.forget("back", "1");
        table.reserve("back", "2").unwrap();
    }
}
