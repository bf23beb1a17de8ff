//! Legacy links (`--link`) between containers on the default bridge: names in `/etc/hosts` and variables.

use std::sync::Arc;

use super::ports;
use super::record::Record;
use super::spec::HostConfig;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// A container that another one links to, and the other's word for it.
struct Link {
    alias: String,
    target: Arc<Record>,
}

/// Reads `name`, `name:alias` and `/name:/own/alias`.
fn parse(text: &str) -> (&str, &str) {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    (name.trim_start_matches('/'), alias)
}

/// Checks the links of a container to be, and writes them as dockerd shows them.
pub(crate) fn check(engine: &Engine, name: &str, host: &mut HostConfig) -> Result<()> {
    let Some(links) = host.links.as_mut().filter(|links| !links.is_empty()) else { return Ok(()) };
    let mode = host.network_mode.as_str();
    if mode == "host" {
        return Err(Error::invalid(
            "conflicting options: host type networking can't be used with links. This would result in undefined \
             behavior",
        ));
    }
    if mode.starts_with("container:") {
        return Err(Error::invalid(
            "conflicting options: container type network can't be used with links. This would result in undefined \
             behavior",
        ));
    }
    for link in links {
        let (target, alias) = parse(link);
        let found = engine.inner().registry.get(target).map_err(|error| {
            Error::invalid(format_args!("could not get container for {target}: {}", error.message))
        })?;
        *link = format!("/{}:/{name}/{alias}", found.now().name);
    }
    Ok(())
}

/// The links of a container that starts on the default bridge; elsewhere the name server knows them.
fn of(engine: &Engine, record: &Record) -> Result<Vec<Link>> {
    if record.host_config.network_mode != "bridge" {
        return Ok(Vec::new());
    }
    let links = record.host_config.links.iter().flatten();
    links
        .map(|link| {
            let (name, alias) = parse(link);
            let target = engine.inner().registry.get(name)?.now();
            if target.state.lives() {
                Ok(Link { alias: alias.to_owned(), target })
            } else {
                Err(Error::conflict(format_args!(
                    "Cannot link to a non running container: /{} AS /{}/{alias}",
                    target.name, record.name
                )))
            }
        })
        .collect()
}

/// The address of a link's target on the default bridge.
fn address(engine: &Engine, target: &Record) -> Option<String> {
    let bridge = &engine.inner().builtin.bridge;
    let endpoint = target.endpoints.iter().find(|endpoint| endpoint.network == *bridge)?;
    endpoint.ipv4.map(|ipv4| ipv4.address.to_string())
}

/// Lines for `/etc/hosts`: names and address.
pub(crate) fn hosts(engine: &Engine, record: &Record) -> Result<Vec<(String, String)>> {
    let links = of(engine, record)?;
    let line = |link: Link| {
        let address = address(engine, &link.target)?;
        let mut names = vec![link.alias];
        for name in [&link.target.config.hostname, &link.target.name] {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        Some((names.join(" "), address))
    };
    Ok(links.into_iter().filter_map(line).collect())
}

/// Variables by which programs of old find the target.
pub(crate) fn environment(engine: &Engine, record: &Record) -> Result<Vec<String>> {
    let mut variables = Vec::new();
    for link in of(engine, record)? {
        if let Some(address) = address(engine, &link.target) {
            variables.extend(variables_of(&record.name, &link, &address));
        }
    }
    Ok(variables)
}

fn variables_of(parent: &str, link: &Link, address: &str) -> Vec<String> {
    let prefix = link.alias.replace('-', "_").to_ascii_uppercase();
    let mut variables = vec![format!("{prefix}_NAME=/{parent}/{}", link.alias)];
    let mut exposed: Vec<(u16, String)> =
        link.target.config.exposed_ports.keys().filter_map(|text| ports::parse_port(text).ok()).collect();
    exposed.sort_by_key(|(port, protocol)| (protocol != "tcp", *port));
    if let Some((port, protocol)) = exposed.first() {
        variables.push(format!("{prefix}_PORT={protocol}://{address}:{port}"));
    }
    for (port, protocol) in &exposed {
        let name = format!("{prefix}_PORT_{port}_{}", protocol.to_ascii_uppercase());
        variables.extend([
            format!("{name}={protocol}://{address}:{port}"),
            format!("{name}_ADDR={address}"),
            format!("{name}_PORT={port}"),
            format!("{name}_PROTO={protocol}"),
        ]);
    }
    let inherited = link.target.config.env.iter().flatten().filter(|pair| {
        pair.split_once('=').is_some_and(|(name, _)| !matches!(name, "HOME" | "PATH" | "HOSTNAME" | "TERM"))
    });
    variables.extend(inherited.map(|pair| format!("{prefix}_ENV_{pair}")));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_written_and_as_shown() {
        assert_eq!(parse("db"), ("db", "db"));
        assert_eq!(parse("db:store"), ("db", "store"));
        assert_eq!(parse("/db:/web/store"), ("db", "store"));
    }
}
