//! Networks in Docker's JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// `default`.
    pub driver: String,
    /// Options.
    pub options: Option<BTreeMap<String, String>>,
    /// Subnets.
    pub config: Vec<IpamConfig>,
}

/// A subnet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
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
    /// Addresses never given to a container, by the name of who has them.
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "BTreeMap::is_empty")]
    pub aux_addresses: BTreeMap<String, String>,
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

/// The answer to `POST /networks/create`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkCreated {
    /// Its id.
    pub id: String,
    /// What can't be honoured.
    pub warning: String,
}

/// The answer to `POST /networks/prune`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworksPruned {
    /// The names of what went.
    pub networks_deleted: Option<Vec<String>>,
}
