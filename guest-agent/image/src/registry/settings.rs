//! How registries are reached and trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::dial::{Dial, TcpDial};
use super::proxy::Proxies;

/// What a client sends in `X-Registry-Auth`, decoded.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name; empty for none.
    pub username: String,
    /// Password or access token.
    pub password: String,
    /// An OAuth2 refresh token, used instead of the password.
    pub identity_token: Option<String>,
    /// A bearer token to be sent as it is.
    pub registry_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// How registries are reached.
#[derive(Clone)]
pub struct RegistryConfig {
    /// Base URLs tried before the default registry, in this order.
    pub mirrors: Vec<String>,
    /// Hosts (`host`, `host:port`) or networks (`10.0.0.0/8`) whose certificate is not checked and that may speak
    /// plain HTTP. `localhost` and 127.0.0.0/8 always may.
    pub insecure: BTreeSet<String>,
    /// Opens the connections.
    pub dial: Arc<dyn Dial>,
    /// Through which proxies.
    pub proxies: Proxies,
    /// Certificates per host (`host` or `host:port`).
    pub certificates: BTreeMap<String, HostCertificates>,
    /// Authorities trusted for every host, beside the system's and Mozilla's; PEM.
    pub authorities: Vec<u8>,
    /// Connecting, TLS included, may take this long.
    pub connect_timeout: Duration,
    /// A registry that sends nothing for this long is given up.
    pub read_timeout: Duration,
    /// How often a failed request is tried again.
    pub retries: u32,
    /// The first wait between tries; each further one is twice as long.
    pub retry_delay: Duration,
    /// Layers of one pull that download at the same time; dockerd's `max-concurrent-downloads`.
    pub concurrent_downloads: usize,
}

/// What `/etc/docker/certs.d/<host>` would hold; PEM.
#[derive(Clone, Default)]
pub struct HostCertificates {
    /// Authorities trusted for this host.
    pub authorities: Vec<u8>,
    /// Certificate chain and key to present.
    pub client: Option<ClientCertificate>,
}

/// A certificate that this engine presents.
#[derive(Clone)]
pub struct ClientCertificate {
    /// Chain, PEM.
    pub chain: Vec<u8>,
    /// Key, PEM.
    pub key: Vec<u8>,
}

impl Default for RegistryConfig {
    fn default() -> RegistryConfig {
        RegistryConfig {
            mirrors: Vec::new(),
            insecure: BTreeSet::new(),
            dial: Arc::new(TcpDial),
            proxies: Proxies::default(),
            certificates: BTreeMap::new(),
            authorities: Vec::new(),
            connect_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(30),
            retries: 5,
            retry_delay: Duration::from_millis(500),
            // One more than the CPUs usually given to the VM keeps them busy while one layer waits for the network.
            concurrent_downloads: 4,
        }
    }
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryConfig")
            .field("mirrors", &self.mirrors)
            .field("insecure", &self.insecure)
            .finish_non_exhaustive()
    }
}

impl RegistryConfig {
    /// Whether `domain` (`host` or `host:port`) may do without a checked certificate.
    pub fn is_insecure(&self, domain: &str) -> bool {
        let host = host_of(domain);
        if host == "localhost" || self.insecure.contains(domain) || self.insecure.contains(host) {
            return true;
        }
        let Ok(address) = host.parse::<std::net::IpAddr>() else { return false };
        address.is_loopback() || self.insecure.iter().any(|network| contains(network, address))
    }
}

/// The host without its port, and without the brackets of an IPv6 address.
pub(crate) fn host_of(domain: &str) -> &str {
    match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => domain.split_once(':').map_or(domain, |(host, _)| host),
    }
}

pub(super) fn contains(network: &str, address: std::net::IpAddr) -> bool {
    use std::net::IpAddr::{V4, V6};
    let Some((base, length)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<std::net::IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    match (base, address) {
        (V4(base), V4(address)) if length <= 32 => {
            (u64::from(u32::from(base) ^ u32::from(address)) >> (32 - length)) == 0
        }
        (V6(base), V6(address)) if length <= 128 => {
            length == 0 || (u128::from(base) ^ u128::from(address)) >> (128 - length) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_listed_hosts_and_networks_are_insecure() {
        let config = RegistryConfig {
            insecure: ["10.1.0.0/16", "reg.example", "other:5000"].map(str::to_owned).into(),
            ..RegistryConfig::default()
        };
        for domain in
            ["localhost:5000", "127.0.0.9", "[::1]:5000", "10.1.200.3:80", "reg.example:99", "other:5000"]
        {
            assert!(config.is_insecure(domain), "{domain}");
        }
        for domain in ["docker.io", "10.2.0.1", "other", "other:5001", "128.0.0.1"] {
            assert!(!config.is_insecure(domain), "{domain}");
        }
    }

    #[test]
    fn credentials_do_not_print_their_secrets() {
        let credentials =
            Credentials { username: "me".into(), password: "hunter2".into(), ..Default::default() };
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
