//! The three files that name things in a container, and what its name server asks: `/etc/hosts`,
//! `/etc/resolv.conf`, `/etc/hostname`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use network::names::{Hosts, Resolver};
use network::{EndpointRecord, ResolverSpec, Upstream};
use runtime::{Mount, MountKind};

use super::container::Container;
use super::record::Record;
use super::{links, networking};
use crate::engine::Engine;
use crate::error::{Error, Result};

const DNS_PORT: u16 = 53;

/// Writes the files and mounts them.
pub(crate) fn files(
    engine: &Engine,
    container: &Container,
    record: &Record,
    endpoints: &[EndpointRecord],
) -> Result<Vec<Mount>> {
    let mode = record.host_config.network_mode.as_str();
    let machine = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (hosts, resolver) = match mode.strip_prefix("container:") {
        Some(name) => {
            let other = engine.inner().registry.get(name)?;
            (
                machine(&other.file("hosts").to_string_lossy()),
                machine(&other.file("resolv.conf").to_string_lossy()),
            )
        }
        None if record.networks.contains_key("host") => {
            let mut hosts = machine("/etc/hosts");
            for (name, address) in extra_hosts(engine, record)? {
                hosts.push_str(&format!("{address}\t{name}\n"));
            }
            (hosts, resolv_conf(engine, record)?)
        }
        None => {
            let addresses: Vec<IpAddr> = endpoints.iter().flat_map(EndpointRecord::addresses).collect();
            let mut extra = extra_hosts(engine, record)?;
            extra.extend(links::hosts(engine, record)?);
            let hosts = Hosts {
                hostname: &record.config.hostname,
                domainname: &record.config.domainname,
                addresses: &addresses,
                extra: &extra,
                ipv6: true,
            };
            (hosts.render(), resolv_conf(engine, record)?)
        }
    };
    let write = |name: &str, content: &str| -> Result<Mount> {
        let path = container.file(name);
        fs::write(&path, content)
            .map_err(|error| Error::io(format_args!("cannot write `{}`", path.display()), &error))?;
        Ok(Mount { kind: MountKind::bind(path), target: Path::new("/etc").join(name), readonly: false })
    };
    Ok(vec![
        write("hosts", &hosts)?,
        write("resolv.conf", &resolver)?,
        write("hostname", &format!("{}\n", record.config.hostname))?,
    ])
}

/// Makes `/etc/resolv.conf` of a running container right for the networks that it is on now.
pub(crate) fn rewrite(engine: &Engine, container: &Container, record: &Record) -> Result<()> {
    let path = container.file("resolv.conf");
    let text = resolv_conf(engine, record)?;
    // It is written only when the kind of name server changes; otherwise what programs made of the file stays.
    let kept = fs::read_to_string(&path).unwrap_or_default();
    if kept.contains(EMBEDDED) == text.contains(EMBEDDED) {
        return Ok(());
    }
    fs::write(&path, text)
        .map_err(|error| Error::io(format_args!("cannot write `{}`", path.display()), &error))
}

const EMBEDDED: &str = "nameserver 127.0.0.11\n";

fn extra_hosts(engine: &Engine, record: &Record) -> Result<Vec<(String, String)>> {
    let lines = record.host_config.extra_hosts.iter().flatten();
    lines
        .map(|line| {
            let (name, address) = line
                .split_once([':', '='])
                .ok_or_else(|| Error::invalid(format_args!("bad format for add-host: \"{line}\"")))?;
            let address =
                if address == "host-gateway" { engine.networks().host_gateway() } else { address.to_owned() };
            Ok((name.to_owned(), address))
        })
        .collect()
}

/// What was asked of names: the container's own wishes, else the engine's.
struct Wishes {
    servers: Vec<IpAddr>,
    /// The servers are the container's own wish.
    own_servers: bool,
    search: Vec<String>,
    options: Vec<String>,
}

impl Wishes {
    fn of(engine: &Engine, record: &Record) -> Result<Wishes> {
        let host = &*record.host_config;
        let options = &engine.config().options;
        let list = |own: &Option<Vec<String>>, all: &[String]| match own {
            Some(own) if !own.is_empty() => own.clone(),
            _ => all.to_vec(),
        };
        let servers = list(&host.dns, &options.dns)
            .iter()
            .map(|text| {
                text.parse().map_err(|_| Error::invalid(format_args!("invalid DNS server address: {text}")))
            })
            .collect::<Result<_>>()?;
        Ok(Wishes {
            servers,
            own_servers: host.dns.as_ref().is_some_and(|servers| !servers.is_empty()),
            search: list(&host.dns_search, &options.dns_search),
            options: list(&host.dns_options, &options.dns_options),
        })
    }

    fn resolver<'a>(&'a self, machine: &'a str) -> Resolver<'a> {
        Resolver { machine, servers: &self.servers, search: &self.search, options: &self.options }
    }

    fn nothing(&self) -> bool {
        self.servers.is_empty() && self.search.is_empty() && self.options.is_empty()
    }
}

fn machines() -> String {
    fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

fn resolv_conf(engine: &Engine, record: &Record) -> Result<String> {
    let (wishes, machine) = (Wishes::of(engine, record)?, machines());
    if record.networks.contains_key("host") && wishes.nothing() {
        return Ok(machine);
    }
    let resolver = wishes.resolver(&machine);
    Ok(if networking::has_resolver(engine, record) { resolver.render_embedded() } else { resolver.render() })
}

/// The embedded name server of a container.
pub(crate) fn plan(engine: &Engine, record: &Record) -> Result<ResolverSpec> {
    let (wishes, machine) = (Wishes::of(engine, record)?, machines());
    let resolver = wishes.resolver(&machine);
    let gateway: Option<IpAddr> = engine.networks().host_gateway().parse().ok();
    let servers = resolver.upstream().into_iter().map(|address| {
        // The bridge's address is this machine itself, whether or not the bridge is there yet.
        let itself = Some(address) == gateway && !wishes.own_servers;
        let address = if itself { Ipv4Addr::LOCALHOST.into() } else { address };
        Upstream { address: SocketAddr::new(address, DNS_PORT), inside: wishes.own_servers }
    });
    Ok(ResolverSpec { container: record.id.clone(), servers: servers.collect(), ndots: resolver.ndots() })
}
