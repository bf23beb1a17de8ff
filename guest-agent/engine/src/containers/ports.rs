//! Ports as clients write them, and as lists show them: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use network::{PortBinding as Bound, PortSpec, Protocol};

use super::spec::{Config, HostConfig, PortBinding};
use super::view::Port;
use crate::error::{Error, Result};

/// Reads `80/tcp`, `53/udp` or `80`.
pub(crate) fn parse_port(text: &str) -> Result<(u16, String)> {
    let invalid = || Error::invalid(format_args!("invalid port specification: \"{text}\""));
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let port: u16 = port.parse().map_err(|_| invalid())?;
    match protocol.to_ascii_lowercase().as_str() {
        protocol @ ("tcp" | "udp" | "sctp") => Ok((port, protocol.to_owned())),
        _ => Err(Error::invalid(format_args!("invalid proto: {protocol}"))),
    }
}

/// What is to be published.
pub(crate) fn wanted(config: &Config, host: &HostConfig) -> Result<Vec<PortSpec>> {
    let mut specs = Vec::new();
    let mut bound = BTreeSet::new();
    for (text, bindings) in host.port_bindings.iter().flatten() {
        let (container_port, protocol) = parse_port(text)?;
        for binding in bindings.iter().flatten() {
            bound.insert((container_port, protocol.clone()));
            specs.push(spec(container_port, &protocol, binding)?);
        }
    }
    if host.publish_all_ports {
        let exposed = config.exposed_ports.keys().map(|text| parse_port(text));
        for port in exposed {
            let (container_port, protocol) = port?;
            if !bound.contains(&(container_port, protocol.clone())) {
                specs.push(spec(container_port, &protocol, &PortBinding::default())?);
            }
        }
    }
    Ok(specs)
}

fn spec(container_port: u16, protocol: &str, binding: &PortBinding) -> Result<PortSpec> {
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => {
            return Err(Error::not_implemented(format_args!("publishing {other} ports is not available")));
        }
    };
    let host_ip = match binding.host_ip.as_str() {
        "" => None,
        text => Some(
            text.parse::<IpAddr>().map_err(|_| Error::invalid(format_args!("invalid IP address: {text}")))?,
        ),
    };
    let invalid = || Error::invalid(format_args!("invalid port specification: \"{}\"", binding.host_port));
    let (first, last) = match binding.host_port.as_str() {
        "" => ("0", "0"),
        text => text.split_once('-').unwrap_or((text, text)),
    };
    let (host_port, host_port_end) =
        (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
    if host_port_end < host_port {
        return Err(invalid());
    }
    Ok(PortSpec { container_port, protocol, host_ip, host_port, host_port_end })
}

/// `NetworkSettings.Ports`: what is published, and `null` where a port is only exposed.
pub(crate) fn settings(config: &Config, bound: &[Bound]) -> BTreeMap<String, Option<Vec<PortBinding>>> {
    let mut ports: BTreeMap<String, Option<Vec<PortBinding>>> =
        config.exposed_ports.keys().map(|port| (normal(port), None)).collect();
    for binding in bound {
        let key = format!("{}/{}", binding.container_port, binding.protocol);
        ports.entry(key).or_default().get_or_insert_default().push(PortBinding {
            host_ip: binding.host_ip.to_string(),
            host_port: binding.host_port.to_string(),
        });
    }
    ports
}

fn normal(text: &str) -> String {
    if text.contains('/') { text.to_ascii_lowercase() } else { format!("{text}/tcp") }
}

/// The ports of a row of `ps`.
pub(crate) fn listed(config: &Config, bound: &[Bound]) -> Vec<Port> {
    let mut ports: Vec<Port> = bound
        .iter()
        .map(|binding| Port {
            ip: Some(binding.host_ip.to_string()),
            private_port: binding.container_port,
            public_port: Some(binding.host_port),
            protocol: binding.protocol.to_string(),
        })
        .collect();
    for (private_port, protocol) in config.exposed_ports.keys().filter_map(|text| parse_port(text).ok()) {
        if !ports.iter().any(|port| port.private_port == private_port && port.protocol == protocol) {
            ports.push(Port { ip: None, private_port, public_port: None, protocol });
        }
    }
    ports.sort();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_addresses_and_any_port_are_read() {
        let host: HostConfig = serde_json::from_str(
            r#"{"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080-8090"},{"HostPort":""}],"53/udp":null}}"#,
        )
        .unwrap();
        let specs = wanted(&Config::default(), &host).unwrap();
        assert_eq!(specs.len(), 2);
        assert_eq!((specs[0].host_port, specs[0].host_port_end), (8080, 8090));
        assert_eq!((specs[1].host_ip, specs[1].host_port), (None, 0));
    }

    #[test]
    fn publishing_all_takes_the_exposed_ports_that_are_left() {
        let config: Config = serde_json::from_str(r#"{"ExposedPorts":{"80/tcp":{},"81":{}}}"#).unwrap();
        let host: HostConfig =
            serde_json::from_str(r#"{"PublishAllPorts":true,"PortBindings":{"80/tcp":[{"HostPort":"1"}]}}"#)
                .unwrap();
        let ports: Vec<u16> =
            wanted(&config, &host).unwrap().iter().map(|spec| spec.container_port).collect();
        assert_eq!(ports, [80, 81]);
    }

    #[test]
    fn nonsense_is_refused() {
        for port in ["", "http", "80/icmp", "70000", "80/"] {
            assert!(parse_port(port).is_err(), "{port}");
        }
    }
}
