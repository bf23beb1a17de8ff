//! The networks that a container is asked to join.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record;

record! {
    /// The networks a container joins.
    pub struct NetworkingConfig {
        /// Network name → how.
        pub endpoints_config: BTreeMap<String, Option<EndpointSettings>>,
    }
}

record! {
    /// One container's place in one network, as asked for and as it came out.
    pub struct EndpointSettings {
        /// Wished addresses.
        #[serde(rename = "IPAMConfig")]
        pub ipam_config: Option<EndpointIpam>,
        /// Legacy links.
        pub links: Option<Vec<String>>,
        /// More names.
        pub aliases: Option<Vec<String>>,
        /// MAC address.
        pub mac_address: String,
        /// Options for the driver.
        pub driver_opts: Option<BTreeMap<String, String>>,
        /// The highest wins the default route.
        pub gw_priority: i64,
        /// The network.
        #[serde(rename = "NetworkID")]
        pub network_id: String,
        /// The endpoint.
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        /// IPv4 gateway.
        pub gateway: String,
        /// IPv4 address.
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        /// Its prefix.
        #[serde(rename = "IPPrefixLen")]
        pub ip_prefix_len: u8,
        /// IPv6 gateway.
        #[serde(rename = "IPv6Gateway")]
        pub ipv6_gateway: String,
        /// IPv6 address.
        #[serde(rename = "GlobalIPv6Address")]
        pub global_ipv6_address: String,
        /// Its prefix.
        #[serde(rename = "GlobalIPv6PrefixLen")]
        pub global_ipv6_prefix_len: u8,
        /// Names that resolve to it.
        #[serde(rename = "DNSNames")]
        pub dns_names: Option<Vec<String>>,
    }
}

record! {
    /// Wished addresses.
    pub struct EndpointIpam {
        /// IPv4.
        #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
        pub ipv4_address: String,
        /// IPv6.
        #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
        pub ipv6_address: String,
        /// Link-local.
        #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Option::is_none")]
        pub link_local_ips: Option<Vec<String>>,
    }
}
