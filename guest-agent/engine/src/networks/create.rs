//! Making and removing users' networks: what may be asked, and dockerd's words for what may not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use network::{NetworkSpec, Subnet, SubnetSpec};

use super::request::{CreateNetwork, WishedIpam};
use super::view::{Ipam, IpamConfig, NetworkCreated};
use super::{KIND, Networks, UserNetwork, Which, failure};
use crate::containers::names;
use crate::error::{Error, Result};
use crate::time::Time;

const SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
                     connect this node to swarm and try again.";

impl Networks {
    /// `POST /networks/create`
    pub async fn create(&self, request: CreateNetwork) -> Result<NetworkCreated> {
        check(&request)?;
        let mechanism = self.mechanism()?;
        let (spec, ipam) = plan(&request, names::id()?)?;
        let (id, name) = (spec.id.clone(), spec.name.clone());
        self.table().reserve(&name, &id)?;
        let made = {
            let spec = spec.clone();
            tokio::task::spawn_blocking(move || mechanism.create(&spec)).await.map_err(Error::system)
        };
        let record = match made.and_then(|made| made.map_err(|error| failure(&error))) {
            Ok(record) => record,
            Err(error) => {
                self.table().forget(&name, &id);
                return Err(error);
            }
        };
        let network = UserNetwork {
            created: Time::now(),
            attachable: request.attachable,
            own_subnets: !ipam.config.is_empty(),
            ipam: filled(ipam, &record),
            options: request.options,
            labels: request.labels,
            spec: NetworkSpec { subnets: settled(spec.subnets, &record), ..spec },
        };
        self.engine.inner().store.put(KIND, &id, &network);
        self.table().known().networks.insert(id.clone(), Arc::new(network));
        self.event("create", &self.find(&id)?);
        Ok(NetworkCreated { id, warning: String::new() })
    }

    /// `DELETE /networks/{name}`
    pub async fn remove(&self, name: &str) -> Result<()> {
        let found = self.find(name)?;
        let Which::User(network) = &found else {
            let name = found.name();
            return Err(Error::forbidden(format_args!(
                "{name} is a pre-defined network and cannot be removed"
            )));
        };
        let (name, id) = (network.spec.name.clone(), network.spec.id.clone());
        let in_use = self.members(&id);
        if !in_use.is_empty() {
            let list: Vec<String> = in_use
                .iter()
                .map(|(record, endpoint)| {
                    format!(
                        "name:\"{}\" id:\"{}\"",
                        record.name,
                        &endpoint.id.0[..12.min(endpoint.id.0.len())]
                    )
                })
                .collect();
            return Err(Error::forbidden(format_args!(
                "error while removing network: network {name} has active endpoints ({})",
                list.join(", ")
            )));
        }
        let mechanism = self.mechanism()?;
        let gone = id.clone();
        let removed = tokio::task::spawn_blocking(move || mechanism.remove(&gone)).await;
        match removed.map_err(Error::system)? {
            // The record alone was left.
            Ok(()) | Err(network::NetworkError::NoSuchNetwork(_)) => {}
            Err(error @ network::NetworkError::NetworkInUse { .. }) => return Err(failure(&error)),
            // The network itself is gone by then.
            Err(error) => tracing::warn!("network {name} is not wholly removed: {}", failure(&error)),
        }
        self.engine.inner().store.delete(KIND, &id);
        self.table().forget(&name, &id);
        self.event("destroy", &found);
        Ok(())
    }
}

/// Refuses what can't be had.
fn check(request: &CreateNetwork) -> Result<()> {
    let name = request.name.as_str();
    if name.trim().is_empty() {
        return Err(Error::invalid("invalid network name: name is empty"));
    }
    if matches!(name, "bridge" | "host" | "none" | "default") {
        return Err(Error::forbidden(format_args!(
            "operation is not permitted on predefined {name} network "
        )));
    }
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.- ".contains(&byte));
    if !first || !rest || name.contains(' ') && name.trim() != name {
        return Err(Error::invalid(format_args!(
            "invalid network name: {name}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    if request.ingress || request.config_only || request.scope == "swarm" {
        return Err(Error::unavailable(SWARM));
    }
    match request.driver.as_str() {
        "" | "default" | "bridge" => {}
        driver @ ("host" | "null") => {
            return Err(Error::forbidden(format_args!(
                "only one instance of \"{driver}\" network is allowed"
            )));
        }
        "overlay" => return Err(Error::forbidden(SWARM)),
        driver @ ("macvlan" | "ipvlan") => {
            return Err(Error::not_implemented(format_args!(
                "networks of driver {driver} are not available"
            )));
        }
        driver => return Err(Error::not_found(format_args!("plugin \"{driver}\" not found"))),
    }
    match request.ipam.driver.as_str() {
        "" | "default" => {}
        driver => return Err(Error::not_found(format_args!("plugin \"{driver}\" not found"))),
    }
    if request.enable_ipv4 == Some(false) {
        return Err(Error::not_implemented("networks without IPv4 are not available"));
    }
    Ok(())
}

/// What the mechanism is told, and what clients are shown of the addresses.
fn plan(request: &CreateNetwork, id: String) -> Result<(NetworkSpec, Ipam)> {
    let options = Options(&request.options);
    let ipv6 = match request.enable_ipv6 {
        Some(wanted) => wanted,
        None => options.flag("com.docker.network.enable_ipv6")?.unwrap_or(false),
    };
    let subnets = subnets(&request.ipam, ipv6)?;
    options.refuse_gateway_modes()?;
    let spec = NetworkSpec {
        id,
        name: request.name.clone(),
        link: options.text("com.docker.network.bridge.name").map(str::to_owned),
        subnets,
        ipv6,
        internal: request.internal,
        members_talk: options.flag("com.docker.network.bridge.enable_icc")?,
        masquerade: options.flag("com.docker.network.bridge.enable_ip_masquerade")?,
        mtu: options.mtu()?,
        host_ip: options.address("com.docker.network.bridge.host_binding_ipv4")?,
    };
    let ipam = Ipam {
        driver: "default".to_owned(),
        options: Some(request.ipam.options.clone().unwrap_or_default()),
        config: request.ipam.config.clone(),
    };
    Ok((spec, ipam))
}

/// The driver's options, by dockerd's names. Unknown ones are kept and mean nothing, as with dockerd.
struct Options<'a>(&'a BTreeMap<String, String>);

impl Options<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.text(name) {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(value) => Err(bad(name, value)),
        }
    }

    fn mtu(&self) -> Result<Option<u32>> {
        let name = "com.docker.network.driver.mtu";
        let Some(value) = self.text(name) else { return Ok(None) };
        match value.parse() {
            Ok(0) => Ok(None),
            // The kernel's own bounds for such links.
            Ok(mtu @ 68..=65535) => Ok(Some(mtu)),
            _ => Err(bad(name, value)),
        }
    }

    fn address(&self, name: &str) -> Result<Option<IpAddr>> {
        self.text(name).map(|value| value.parse().map_err(|_| bad(name, value))).transpose()
    }

    fn refuse_gateway_modes(&self) -> Result<()> {
        for family in ["ipv4", "ipv6"] {
            let name = format!("com.docker.network.bridge.gateway_mode_{family}");
            match self.text(&name) {
                None | Some("nat") => {}
                Some(mode @ ("nat-unprotected" | "routed" | "isolated")) => {
                    return Err(Error::not_implemented(format_args!("gateway mode {mode} is not available")));
                }
                Some(mode) => return Err(bad(&name, mode)),
            }
        }
        Ok(())
    }
}

fn bad(name: &str, value: &str) -> Error {
    Error::invalid(format_args!("failed to parse {name} value: invalid value \"{value}\""))
}

/// Reads what was asked of addresses; all that is wrong is told at once.
fn subnets(ipam: &WishedIpam, ipv6: bool) -> Result<Vec<SubnetSpec>> {
    let mut wrong = Vec::new();
    let mut subnets: Vec<SubnetSpec> = Vec::new();
    for config in &ipam.config {
        if let Some(spec) = subnet(config, ipv6, &mut wrong) {
            subnets.push(spec);
        }
    }
    for (index, one) in subnets.iter().enumerate() {
        if subnets[..index].iter().any(|other| other.subnet.overlaps(&one.subnet)) {
            return Err(failure(&network::NetworkError::PoolOverlaps));
        }
    }
    if wrong.is_empty() {
        Ok(subnets)
    } else {
        Err(Error::invalid(format_args!("invalid network config:\n{}", wrong.join("\n"))))
    }
}

fn subnet(config: &IpamConfig, ipv6: bool, wrong: &mut Vec<String>) -> Option<SubnetSpec> {
    let mut cidr = |what: &str, text: &str| match text.parse::<Subnet>() {
        Ok(found) if found.to_string() == text || text.contains(':') => Some(found),
        Ok(found) => {
            wrong.push(format!("invalid {what} {text}: it should be {found}"));
            None
        }
        Err(_) => {
            wrong.push(format!("invalid {what} {text}: invalid CIDR block notation"));
            None
        }
    };
    let found = cidr("subnet", &config.subnet)?;
    let range = match config.ip_range.as_str() {
        "" => None,
        text => Some(cidr("ip-range", text)?),
    };
    let mut refuse = |what: String| wrong.push(what);
    if !found.is_ipv4() && !ipv6 {
        refuse(format!("invalid subnet {found}: IPv6 has not been enabled for this network"));
    }
    if let Some(range) = range
        && !(found.contains(range.first()) && found.contains(range.last()))
    {
        refuse(format!("invalid ip-range {range}: CIDR block is not inside its parent subnet {found}"));
    }
    let mut member = |what: &str, text: &str| match text.parse::<IpAddr>() {
        Err(_) => {
            refuse(format!("invalid {what} {text}: invalid address"));
            None
        }
        Ok(address) if !found.contains(address) => {
            refuse(format!("invalid {what} {text}: parent subnet {found} doesn't contain this address"));
            None
        }
        Ok(address) => Some(address),
    };
    let gateway = match config.gateway.as_str() {
        "" => None,
        text => member("gateway", text),
    };
    let reserved = config
        .aux_addresses
        .iter()
        .filter_map(|(name, text)| member(&format!("auxiliary address {name}"), text))
        .collect();
    Some(SubnetSpec { subnet: found, range, gateway, reserved })
}

/// The subnets that the network got, with what was asked of them.
fn settled(asked: Vec<SubnetSpec>, record: &network::NetworkRecord) -> Vec<SubnetSpec> {
    record
        .subnets
        .iter()
        .map(|got| {
            let mut spec = asked
                .iter()
                .find(|spec| spec.subnet == got.subnet)
                .cloned()
                .unwrap_or_else(|| SubnetSpec::of(got.subnet));
            spec.gateway = Some(got.gateway);
            spec
        })
        .collect()
}

/// What was asked, completed by what was chosen.
fn filled(mut ipam: Ipam, record: &network::NetworkRecord) -> Ipam {
    for got in &record.subnets {
        let is = |config: &&mut IpamConfig| config.subnet.parse() == Ok(got.subnet);
        match ipam.config.iter_mut().find(is) {
            Some(config) => config.gateway = got.gateway.to_string(),
            None => ipam.config.push(IpamConfig {
                subnet: got.subnet.to_string(),
                gateway: got.gateway.to_string(),
                ..IpamConfig::default()
            }),
        }
    }
    ipam
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> CreateNetwork {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn options_are_read_by_dockerds_names() {
        let wish = request(
            r#"{"Name":"n","Options":{"com.docker.network.bridge.enable_icc":"false",
                "com.docker.network.driver.mtu":"1400","com.docker.network.bridge.name":"br9",
                "com.docker.network.bridge.host_binding_ipv4":"127.0.0.1","else":"kept"}}"#,
        );
        let (spec, _) = plan(&wish, "1".into()).unwrap();
        assert_eq!(
            (spec.members_talk, spec.mtu, spec.link.as_deref()),
            (Some(false), Some(1400), Some("br9"))
        );
        assert_eq!(spec.host_ip, Some([127, 0, 0, 1].into()));
        let wish = request(r#"{"Name":"n","Options":{"com.docker.network.driver.mtu":"many"}}"#);
        assert!(plan(&wish, "1".into()).unwrap_err().message.contains("com.docker.network.driver.mtu"));
    }

    #[test]
    fn every_mistake_in_the_addresses_is_told() {
        let wish = request(
            r#"{"Name":"n","IPAM":{"Config":[{"Subnet":"10.1.0.1/24"},{"Subnet":"10.2.0.0/33"},
                {"Subnet":"fd00::/64"},{"Subnet":"10.3.0.0/24","Gateway":"10.4.0.1","IPRange":"10.5.0.0/24"}]}}"#,
        );
        assert_eq!(
            subnets(&wish.ipam, false).unwrap_err().message,
            "invalid network config:\n\
             invalid subnet 10.1.0.1/24: it should be 10.1.0.0/24\n\
             invalid subnet 10.2.0.0/33: invalid CIDR block notation\n\
             invalid subnet fd00::/64: IPv6 has not been enabled for this network\n\
             invalid ip-range 10.5.0.0/24: CIDR block is not inside its parent subnet 10.3.0.0/24\n\
             invalid gateway 10.4.0.1: parent subnet 10.3.0.0/24 doesn't contain this address"
        );
    }

    #[test]
    fn predefined_names_and_foreign_drivers_are_refused() {
        let refused = |json: &str| check(&request(json)).unwrap_err().message;
        assert!(
            refused(r#"{"Name":"host"}"#)
                .starts_with("operation is not permitted on predefined host network")
        );
        assert_eq!(refused(r#"{"Name":"a","Driver":"weave"}"#), "plugin \"weave\" not found");
        assert_eq!(
            refused(r#"{"Name":"a","Driver":"host"}"#),
            "only one instance of \"host\" network is allowed"
        );
        assert!(refused(r#"{"Name":"a/b"}"#).starts_with("invalid network name"));
        check(&request(r#"{"Name":"a","Driver":"bridge","CheckDuplicate":true}"#)).unwrap();
    }
}
