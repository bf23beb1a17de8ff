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

impl Networks {
    /// The list.
    pub async fn list(&self, filters: Filters) -> Result<Vec<Network>> {
        drop(filters);
        Ok(Vec::new())
    }

    /// One network, by name, id or the beginning of its id.
    pub async fn inspect(&self, name: &str) -> Result<Network> {
        Err(Error::not_found(format_args!("network {name} not found")))
    }
}
