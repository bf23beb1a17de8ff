//! Networks as clients see them: the three that always exist, `bridge`, `host` and `none`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::time::Time;

/// A network, in Docker's JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created: Time,
    /// `local`.
    pub scope: &'static str,
    /// `bridge`, `host`, `null`.
    pub driver: String,
    /// With IPv4.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// With IPv6.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Addresses.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Without a way out.
    pub internal: bool,
    /// For swarm.
    pub attachable: bool,
    /// For swarm.
    pub ingress: bool,
    /// For swarm.
    pub config_from: ConfigFrom,
    /// For swarm.
    pub config_only: bool,
    /// Container id → its endpoint; empty in lists.
    pub containers: BTreeMap<String, NetworkContainer>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The network whose configuration is used; none.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigFrom {
    /// Its name.
    pub network: String,
}

/// Where addresses come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipam {
    /// `default`.
    pub driver: String,
    /// Options.
    pub options: Option<BTreeMap<String, String>>,
    /// Subnets.
    pub config: Vec<IpamConfig>,
}

/// A subnet.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpamConfig {
    /// It.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    /// The part addresses are taken from.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    /// Its gateway.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
}

/// A container in a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkContainer {
    /// The container's name.
    pub name: String,
    /// The endpoint.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// MAC address.
    pub mac_address: String,
    /// `address/prefix`.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// `address/prefix`.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// The networks' half of the engine; see [`crate::Engine::networks`].
#[derive(Clone)]
pub struct Networks {
    pub(crate) engine: crate::Engine,
}

/// The ids of the networks that always exist.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
pub(crate) struct Builtin {
    pub(crate) bridge: String,
    pub(crate) host: String,
    pub(crate) none: String,
    pub(crate) created: Time,
    /// The bridge as it was made last, so that its subnet stays.
    pub(crate) record: Option<network::NetworkRecord>,
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

    /// The list.
    pub async fn list(&self, filters: Filters) -> Result<Vec<Network>> {
        filters.accept(&["dangling", "driver", "id", "label", "label!", "name", "scope", "type"])?;
        let dangling = filters.flag("dangling")?;
        let fits = |network: &Network| {
            filters.any("name", |wanted| network.name.contains(wanted))
                && filters.any("id", |wanted| network.id.starts_with(wanted))
                && filters.exact("driver", &network.driver)
                && filters.exact("scope", network.scope)
                && filters.any("type", |wanted| wanted == "builtin")
                && filters.labels(&network.labels)
                // Networks that always exist are never dangling for dockerd.
                && dangling.is_none_or(|dangling| !dangling)
        };
        Ok(self.all().into_iter().filter(fits).collect())
    }

    fn all(&self) -> Vec<Network> {
        let builtin = self.builtin();
        let plain = |name: &str, id: &str, driver: &str| Network {
            name: name.to_owned(),
            id: id.to_owned(),
            created: builtin.created,
            scope: "local",
            driver: driver.to_owned(),
            enable_ipv4: true,
            ipam: Ipam { driver: "default".into(), options: None, config: Vec::new() },
            ..Network::default()
        };
        let mut networks = vec![plain("host", &builtin.host, "host"), plain("none", &builtin.none, "null")];
        if let Some(record) = &builtin.record {
            let mut bridge = plain("bridge", &builtin.bridge, "bridge");
            bridge.ipam.config = record
                .subnets
                .iter()
                .map(|subnet| IpamConfig {
                    subnet: subnet.subnet.to_string(),
                    gateway: subnet.gateway.to_string(),
                    ip_range: String::new(),
                })
                .collect();
            let option = |name: &str, value: &str| (format!("com.docker.network.{name}"), value.to_owned());
            bridge.options = BTreeMap::from([
                option("bridge.default_bridge", "true"),
                option("bridge.enable_icc", "true"),
                option("bridge.enable_ip_masquerade", "true"),
                option("bridge.host_binding_ipv4", "0.0.0.0"),
                option("bridge.name", &record.link),
                option("driver.mtu", &record.mtu.unwrap_or(1500).to_string()),
            ]);
            networks.insert(0, bridge);
        }
        networks
    }

    fn find(&self, name: &str) -> Result<Network> {
        let missing = || Error::not_found(format_args!("network {name} not found"));
        let all = self.all();
        if let Some(network) = all.iter().find(|network| network.name == name || network.id == name) {
            return Ok(network.clone());
        }
        let mut matching = all.into_iter().filter(|network| !name.is_empty() && network.id.starts_with(name));
        matching.next().ok_or_else(missing)
    }

    /// One network, by name, id or the beginning of its id.
    pub async fn inspect(&self, name: &str) -> Result<Network> {
        let mut network = self.find(name)?;
        for container in self.engine.inner().registry.all() {
            let record = container.now();
            let Some(endpoint) = record.endpoint.as_ref().filter(|endpoint| endpoint.network == network.id)
            else {
                let same = record.state.lives() && record.host_config.network_mode == network.name;
                if same && network.driver != "bridge" {
                    let member =
                        NetworkContainer { name: record.name.clone(), ..NetworkContainer::default() };
                    network.containers.insert(record.id.clone(), member);
                }
                continue;
            };
            let v4 = endpoint.ipv4.map(|address| format!("{}/{}", address.address, address.prefix));
            let v6 = endpoint.ipv6.map(|address| format!("{}/{}", address.address, address.prefix));
            let member = NetworkContainer {
                name: record.name.clone(),
                endpoint_id: endpoint.id.to_string(),
                mac_address: endpoint.mac.to_string(),
                ipv4_address: v4.unwrap_or_default(),
                ipv6_address: v6.unwrap_or_default(),
            };
            network.containers.insert(record.id.clone(), member);
        }
        Ok(network)
    }

    /// Refuses a network that isn't there.
    pub(crate) fn known(&self, name: &str) -> Result<()> {
        self.find(name).map(drop)
    }

    /// The id of a network that a container names, empty when there is none.
    pub(crate) fn id_of(&self, name: &str) -> String {
        self.find(name).map(|network| network.id).unwrap_or_default()
    }

    /// The id of the bridge that a container names.
    pub(crate) fn of_container(&self, name: &str) -> Result<String> {
        let network = self.find(name)?;
        if network.driver == "bridge" {
            Ok(network.id)
        } else {
            Err(Error::invalid(format_args!("network {name} can't be joined by its id")))
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
}
