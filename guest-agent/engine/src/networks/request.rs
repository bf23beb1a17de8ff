//! What clients ask of networks, in Docker's JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::view::IpamConfig;
use crate::containers::spec::{EndpointSettings, record};

record! {
    /// `POST /networks/create`.
    pub struct CreateNetwork {
        /// Its name.
        pub name: String,
        /// `bridge` when empty.
        pub driver: String,
        /// `local` when empty.
        pub scope: String,
        /// Without a way out.
        pub internal: bool,
        /// For swarm; kept.
        pub attachable: bool,
        /// For swarm.
        pub ingress: bool,
        /// For swarm.
        pub config_only: bool,
        /// With IPv4; the default.
        #[serde(rename = "EnableIPv4")]
        pub enable_ipv4: Option<bool>,
        /// With IPv6.
        #[serde(rename = "EnableIPv6")]
        pub enable_ipv6: Option<bool>,
        /// Addresses.
        #[serde(rename = "IPAM")]
        pub ipam: WishedIpam,
        /// Options of the driver.
        pub options: BTreeMap<String, String>,
        /// Labels.
        pub labels: BTreeMap<String, String>,
    }
}

record! {
    /// Where addresses should come from.
    pub struct WishedIpam {
        /// `default` when empty.
        pub driver: String,
        /// Options of that driver.
        pub options: Option<BTreeMap<String, String>>,
        /// Subnets.
        pub config: Vec<IpamConfig>,
    }
}

record! {
    /// `POST /networks/{name}/connect`.
    pub struct ConnectNetwork {
        /// The container.
        pub container: String,
        /// How.
        pub endpoint_config: EndpointSettings,
    }
}

record! {
    /// `POST /networks/{name}/disconnect`.
    pub struct DisconnectNetwork {
        /// The container.
        pub container: String,
        /// Even when it isn't there any more.
        pub force: bool,
    }
}
