//! A container's places in networks: what may be asked, joining at a start, and coming and going while it runs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use network::{AttachSpec, EndpointRecord, PortBinding, PortSpec};
use runtime::{NamespaceKind, NamespaceMode};

use super::container::Container;
use super::ports;
use super::record::Record;
use super::spec::{Config, EndpointSettings, HostConfig};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::networks::{Which, failure};

const INTERFACE: &str = "com.docker.network.endpoint.ifname";
const PARAMETERS: &str = "com.docker.network.endpoint.sysctls";
const NOT_SHARED: &str = "container sharing network namespace with another container or host cannot be connected \
                          to any other network";
const NOT_HOST: &str = "container cannot be disconnected from host network or connected to host network";
const NOT_NONE: &str = "container cannot be connected to multiple networks with one of the networks in private \
                        (none) mode";

/// What a container asks of each network, by the network's name: that of its mode, and the others it names.
pub(crate) fn wished(
    engine: &Engine,
    config: &Config,
    host: &HostConfig,
    endpoints: BTreeMap<String, Option<EndpointSettings>>,
) -> Result<BTreeMap<String, EndpointSettings>> {
    let mode = host.network_mode.as_str();
    if mode.starts_with("container:") {
        return Ok(BTreeMap::new());
    }
    let primary = find_later(engine, mode)?;
    let mut wished: BTreeMap<String, EndpointSettings> = BTreeMap::new();
    for (name, settings) in endpoints {
        let settings = settings.unwrap_or_default();
        let Some(which) = find_later(engine, if name == "default" { "bridge" } else { &name })? else {
            wished.insert(name, settings);
            continue;
        };
        check(&which, &settings).map_err(|error| Error {
            message: format!(
                "invalid config for network {}: invalid endpoint settings:\n{error}",
                which.name()
            ),
            ..error
        })?;
        wished.insert(which.name().to_owned(), settings);
    }
    let own = wished.entry(primary.as_ref().map_or(mode, Which::name).to_owned()).or_default();
    if own.mac_address.is_empty() {
        own.mac_address.clone_from(&config.mac_address);
    }
    if wished.len() > 1 {
        if wished.contains_key("host") {
            return Err(Error::invalid(NOT_SHARED));
        }
        if wished.contains_key("none") {
            return Err(Error::invalid(NOT_NONE));
        }
    }
    Ok(wished)
}

/// A network that a container to be names; `None` when there is none yet, which its start will tell, as with dockerd.
/// (Clients take "not found" at the making of a container for the image's, and pull it.)
fn find_later(engine: &Engine, name: &str) -> Result<Option<Which>> {
    match engine.networks().find(name) {
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Refuses what can't be had of a network.
pub(crate) fn check(network: &Which, settings: &EndpointSettings) -> Result<()> {
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let addresses = [&ipam.ipv4_address, &ipam.ipv6_address];
    let wishes_address = addresses.iter().any(|address| !address.is_empty());
    match network {
        Which::Builtin(_) if wishes_address => {
            return Err(Error::invalid(
                "user specified IP address is supported on user defined networks only",
            ));
        }
        Which::Builtin(_) if settings.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) => {
            return Err(Error::invalid(
                "network-scoped alias is supported only for containers in user defined networks",
            ));
        }
        Which::User(own) if wishes_address && !own.own_subnets => {
            return Err(Error::invalid(
                "user specified IP address is supported only when connecting to networks with user configured \
                 subnets",
            ));
        }
        _ => {}
    }
    for (family, text) in [("IPv4", addresses[0]), ("IPv6", addresses[1])] {
        let parsed: Option<std::net::IpAddr> = text.parse().ok();
        match parsed {
            _ if text.is_empty() => {}
            Some(address) if address.is_ipv4() == (family == "IPv4") => {
                let Which::User(own) = network else { continue };
                if !own.spec.subnets.iter().any(|subnet| subnet.subnet.contains(address)) {
                    return Err(Error::invalid(format_args!(
                        "no configured subnet or ip-range contain the IP address {address}"
                    )));
                }
            }
            _ => return Err(Error::invalid(format_args!("invalid {family} address: {text}"))),
        }
    }
    if !settings.mac_address.is_empty() {
        settings.mac_address.parse::<network::MacAddress>().map_err(Error::invalid)?;
    }
    parameters(settings).map(drop)
}

/// Kernel parameters of the interface: `net.ipv4.conf.IFNAME.log_martians=1,…`.
fn parameters(settings: &EndpointSettings) -> Result<Vec<(String, String)>> {
    let text = settings.driver_opts.as_ref().and_then(|options| options.get(PARAMETERS));
    let pairs = text.into_iter().flat_map(|text| text.split(',')).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let invalid = || Error::invalid(format_args!("unable to parse {PARAMETERS} value: {pair}"));
            let (name, value) = pair.split_once('=').ok_or_else(invalid)?;
            let parts: Vec<&str> = name.split('.').collect();
            let plain = |part: &&str| {
                !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            };
            // Five parts with the interface as the fourth: nothing else of the namespace can be meant.
            match parts[..] {
                // The docker command writes the word small.
                ["net", "ipv4" | "ipv6" | "mpls", _, "IFNAME" | "ifname", _] if parts.iter().all(plain) => {
                    Ok((name.replace(".ifname.", ".IFNAME."), value.to_owned()))
                }
                _ => Err(invalid()),
            }
        })
        .collect()
}

/// The names by which members of a user's network find a container.
pub(crate) fn names(record: &Record, settings: &EndpointSettings) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    names.extend(settings.aliases.iter().flatten().cloned());
    names.push(record.id[..12].to_owned());
    names.push(record.config.hostname.clone());
    let mut seen = BTreeSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    names
}

fn attach_spec(record: &Record, network: &Which, id: String, used: &BTreeSet<String>) -> Result<AttachSpec> {
    let asked = record.networks.get(network.name()).cloned().unwrap_or_default();
    let ipam = asked.ipam_config.clone().unwrap_or_default();
    let own = matches!(network, Which::User(_));
    let named = asked.driver_opts.as_ref().and_then(|options| options.get(INTERFACE)).cloned();
    let free = || (0..).map(|number| format!("eth{number}")).find(|name| !used.contains(name));
    let links = asked.links.iter().flatten().filter(|_| own);
    Ok(AttachSpec {
        container: record.id.clone(),
        network: id,
        ipv4: ipam.ipv4_address.parse().ok(),
        ipv6: ipam.ipv6_address.parse().ok(),
        mac: if asked.mac_address.is_empty() {
            None
        } else {
            Some(asked.mac_address.parse().map_err(Error::invalid)?)
        },
        interface: named.or_else(free),
        parameters: parameters(&asked)?,
        names: if own { names(record, &asked) } else { Vec::new() },
        links: links
            .map(|link| {
                let (target, alias) = link.split_once(':').unwrap_or((link, link));
                (alias.to_owned(), target.trim_start_matches('/').to_owned())
            })
            .collect(),
        ..AttachSpec::default()
    })
}

/// Which of a container's networks leads outside: that of the highest priority, then by name, as dockerd chooses.
fn gateway<'a>(record: &Record, networks: impl Iterator<Item = &'a Which>) -> Option<String> {
    networks
        .filter(|network| !matches!(network, Which::User(network) if network.spec.internal))
        .map(|network| {
            let priority = record.networks.get(network.name()).map_or(0, |asked| asked.gw_priority);
            (priority, Reverse(network.name().to_owned()))
        })
        .max()
        .map(|(_, name)| name.0)
}

/// A container's places in networks.
#[derive(Default)]
pub(crate) struct Joined {
    pub(crate) endpoints: Vec<EndpointRecord>,
    /// The one of them by which it reaches the outside, and by which its ports are published.
    pub(crate) gateway: Option<EndpointRecord>,
}

/// Joins the networks of a container that starts: all or none.
pub(crate) async fn join(engine: &Engine, record: &Arc<Record>) -> Result<(Joined, NamespaceMode)> {
    let mode = record.host_config.network_mode.as_str();
    if record.config.network_disabled {
        return Ok((Joined::default(), NamespaceMode::Private));
    }
    if let Some(name) = mode.strip_prefix("container:") {
        return Ok((Joined::default(), NamespaceMode::Join(namespace_of(engine, name)?)));
    }
    if record.networks.contains_key("host") {
        return Ok((Joined::default(), NamespaceMode::Host));
    }
    let mut order: Vec<Which> = Vec::new();
    for name in record.networks.keys().filter(|name| *name != "none") {
        let network = engine.networks().find(name)?;
        // The network of the mode has the first interface.
        if name == mode { order.insert(0, network) } else { order.push(network) }
    }
    if order.is_empty() {
        return Ok((Joined::default(), NamespaceMode::Private));
    }
    let gateway = gateway(record, order.iter());
    let mut specs = Vec::new();
    let mut used = BTreeSet::new();
    for network in &order {
        let mut spec = attach_spec(record, network, engine.networks().id(network), &used)?;
        spec.default_route = gateway.as_deref() == Some(network.name());
        used.extend(spec.interface.clone());
        specs.push(spec);
    }
    let Some(networks) = engine.inner().networks.clone() else {
        return Err(Error::not_found(format_args!("network {mode} not found")));
    };
    let resolver = needs_resolver(order.iter()).then(|| super::resolver::plan(engine, record)).transpose()?;
    let work = move || attach_all(&networks, specs, resolver);
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::system(format_args!("joining a network broke off: {error}")))?
        .map_err(|error| failure(&error))
}

/// Blocking.
fn attach_all(
    networks: &network::Networks,
    specs: Vec<AttachSpec>,
    resolver: Option<network::ResolverSpec>,
) -> network::Result<(Joined, NamespaceMode)> {
    let mut joined = Joined::default();
    let mut netns: Option<OwnedFd> = None;
    let undo = |joined: &Joined| {
        for endpoint in &joined.endpoints {
            // The first failure is the one to tell.
            let _ = networks.detach(&endpoint.id);
        }
    };
    for mut spec in specs {
        let leads_outside = spec.default_route;
        let attached = match netns.as_ref().map(OwnedFd::try_clone).transpose() {
            Ok(clone) => {
                spec.netns = clone;
                networks.attach(spec)
            }
            Err(source) => Err(network::NetworkError::Kernel {
                operation: "keep a network namespace".to_owned(),
                source,
            }),
        };
        match attached {
            Ok(endpoint) => {
                if leads_outside {
                    joined.gateway = Some(endpoint.record.clone());
                }
                joined.endpoints.push(endpoint.record);
                netns = Some(endpoint.netns);
            }
            Err(error) => {
                undo(&joined);
                return Err(error);
            }
        }
    }
    if let (Some(netns), Some(resolver)) = (&netns, resolver)
        && let Err(error) = networks.resolve(netns.as_fd(), resolver)
    {
        undo(&joined);
        return Err(error);
    }
    Ok((joined, netns.map_or(NamespaceMode::Private, NamespaceMode::Join)))
}

fn needs_resolver<'a>(mut networks: impl Iterator<Item = &'a Which>) -> bool {
    networks.any(|network| matches!(network, Which::User(_)))
}

/// Whether a container has the embedded name server.
pub(crate) fn has_resolver(engine: &Engine, record: &Record) -> bool {
    let networks: Vec<Which> =
        record.networks.keys().filter_map(|name| engine.networks().find(name).ok()).collect();
    needs_resolver(networks.iter())
}

fn namespace_of(engine: &Engine, name: &str) -> Result<OwnedFd> {
    let other = engine.inner().registry.get(name)?;
    let Some(process) = other.process() else {
        return Err(Error::conflict(format_args!(
            "cannot join network of a non running container: {}",
            other.id
        )));
    };
    process.namespace(NamespaceKind::Net).map_err(|error| Error::io("cannot join a network", &error))
}

/// Takes a container off its networks.
pub(crate) async fn leave(engine: &Engine, endpoints: &[EndpointRecord]) {
    let Some(networks) = engine.inner().networks.clone() else { return };
    let endpoints = endpoints.to_vec();
    let left = tokio::task::spawn_blocking(move || leave_now(&networks, &endpoints)).await;
    if let Err(error) = left {
        tracing::error!("leaving networks broke off: {error}");
    }
}

/// Blocking.
pub(crate) fn leave_now(networks: &network::Networks, endpoints: &[EndpointRecord]) {
    for endpoint in endpoints {
        if let Err(error) = networks.detach(&endpoint.id) {
            tracing::warn!("endpoint {}: {error}", endpoint.id);
        }
    }
}

/// Publishes the ports of a container by one of its endpoints.
pub(crate) async fn publish(
    engine: &Engine,
    record: &Record,
    endpoint: &EndpointRecord,
) -> Result<Vec<PortBinding>> {
    let wanted = ports::wanted(&record.config, &record.host_config)?;
    publish_these(engine, record, endpoint, &wanted).await.map_err(in_start)
}

/// Publishes a running container's ports anew, after the engine was restarted: the same as before, also where any
/// would have done.
pub(crate) async fn publish_again(engine: &Engine, record: &Record) -> Result<Vec<PortBinding>> {
    let wanted: Vec<PortSpec> = record
        .ports
        .iter()
        .map(|port| PortSpec {
            container_port: port.container_port,
            protocol: port.protocol,
            host_ip: Some(port.host_ip),
            host_port: port.host_port,
            host_port_end: port.host_port,
        })
        .collect();
    match outward(engine, record) {
        Some(endpoint) => publish_these(engine, record, endpoint, &wanted).await,
        None => Ok(Vec::new()),
    }
}

/// Opens the name server of a running container anew, after the engine was restarted.
pub(crate) fn serve_again(engine: &Engine, record: &Record, process: &runtime::Process) {
    let Some(networks) = engine.inner().networks.clone() else { return };
    if !has_resolver(engine, record) || record.endpoints.is_empty() {
        return;
    }
    let opened = super::resolver::plan(engine, record).and_then(|plan| {
        let netns = process
            .namespace(NamespaceKind::Net)
            .map_err(|error| Error::io("cannot enter its network namespace", &error))?;
        networks.resolve(netns.as_fd(), plan).map_err(|error| failure(&error))
    });
    if let Err(error) = opened {
        tracing::error!("name server of container {}: {error}", record.name);
    }
}

async fn publish_these(
    engine: &Engine,
    record: &Record,
    endpoint: &EndpointRecord,
    wanted: &[PortSpec],
) -> Result<Vec<PortBinding>> {
    let (false, Some(networks)) = (wanted.is_empty(), &engine.inner().networks) else {
        return Ok(Vec::new());
    };
    networks.publish(&endpoint.id, &record.name, wanted).await.map_err(|error| failure(&error))
}

/// A failure as dockerd tells it of a start.
pub(crate) fn in_start(error: Error) -> Error {
    Error { message: format!("failed to set up container networking: {}", error.message), ..error }
}

/// The endpoint by which a running container reaches the outside.
fn outward<'a>(engine: &Engine, record: &'a Record) -> Option<&'a EndpointRecord> {
    let networks: Vec<Which> =
        record.endpoints.iter().filter_map(|place| engine.networks().find(&place.network).ok()).collect();
    let name = gateway(record, networks.iter())?;
    let id = engine.networks().id(networks.iter().find(|network| network.name() == name)?);
    record.endpoints.iter().find(|place| place.network == id)
}

/// Gives a running container's endpoints the names that go with its new one.
pub(crate) fn rename(engine: &Engine, record: &mut Record) {
    let Some(networks) = engine.inner().networks.clone() else { return };
    let mut endpoints = std::mem::take(&mut record.endpoints);
    for endpoint in endpoints.iter_mut().filter(|endpoint| !endpoint.names.is_empty()) {
        let Ok(network) = engine.networks().find(&endpoint.network) else { continue };
        let asked = record.networks.get(network.name()).cloned().unwrap_or_default();
        *endpoint = networks.rename(endpoint, names(record, &asked));
    }
    record.endpoints = endpoints;
}

/// Refuses a network that a container can't be connected to, or disconnected from.
pub(crate) fn check_change(record: &Record, network: &Which) -> Result<()> {
    if record.host_config.network_mode.starts_with("container:") {
        return Err(Error::invalid(NOT_SHARED));
    }
    if network.driver() == "host" || record.networks.contains_key("host") {
        return Err(Error::invalid(NOT_HOST));
    }
    Ok(())
}

/// Refuses what would be a second network beside `none`.
pub(crate) fn check_none(record: &Record, network: &Which) -> Result<()> {
    let none =
        record.networks.contains_key("none") || network.driver() == "null" && !record.networks.is_empty();
    if none { Err(Error::invalid(NOT_NONE)) } else { Ok(()) }
}

/// Puts a running container on one more network. `record` knows already what is asked of it.
pub(crate) async fn connect(
    engine: &Engine,
    container: &Container,
    record: &mut Record,
    network: &Which,
) -> Result<()> {
    let Some(networks) = engine.inner().networks.clone() else {
        return Err(Error::not_found(format_args!("network {} not found", network.name())));
    };
    let netns = namespace_of(engine, &record.id)?;
    let used = record.endpoints.iter().map(|endpoint| endpoint.interface.clone()).collect();
    let mut spec = attach_spec(record, network, engine.networks().id(network), &used)?;
    spec.netns = Some(netns.try_clone().map_err(Error::system)?);
    let resolver = (needs_resolver([network].into_iter())).then(|| super::resolver::plan(engine, record));
    let resolver = resolver.transpose()?;
    let work = move || {
        let endpoint = networks.attach(spec)?.record;
        match resolver.map_or(Ok(()), |resolver| networks.resolve(netns.as_fd(), resolver)) {
            Ok(()) => Ok(endpoint),
            Err(error) => {
                // The first failure is the one to tell.
                let _ = networks.detach(&endpoint.id);
                Err(error)
            }
        }
    };
    let attached = tokio::task::spawn_blocking(work).await.map_err(Error::system)?;
    let endpoint = attached.map_err(|error| failure(&error))?;
    for address in endpoint.addresses() {
        add_host(container, &host_line(record, address));
    }
    record.endpoints.push(endpoint);
    if let Err(error) = super::resolver::rewrite(engine, container, record) {
        tracing::warn!("resolv.conf of container {}: {error}", record.name);
    }
    settle_outward(engine, record).await
}

/// Takes a running container off a network.
pub(crate) async fn disconnect(
    engine: &Engine,
    container: &Container,
    record: &mut Record,
    endpoint: &EndpointRecord,
) -> Result<()> {
    record.endpoints.retain(|place| place.id != endpoint.id);
    let Some(networks) = engine.inner().networks.clone() else { return Ok(()) };
    let id = endpoint.id.clone();
    let work = move || {
        let detached = networks.detach(&id);
        // Its interface must be gone when the client is told so.
        networks.settle();
        detached
    };
    tokio::task::spawn_blocking(work).await.map_err(Error::system)?.map_err(|error| failure(&error))?;
    for address in endpoint.addresses() {
        remove_host(container, &host_line(record, address));
    }
    settle_outward(engine, record).await
}

/// After a change of networks: the way outside, and the ports, by the endpoint that is right now.
async fn settle_outward(engine: &Engine, record: &mut Record) -> Result<()> {
    let Some(networks) = engine.inner().networks.clone() else { return Ok(()) };
    let endpoint = outward(engine, record).cloned();
    let netns = namespace_of(engine, &record.id)?;
    let gateway = endpoint.clone();
    let routed = tokio::task::spawn_blocking(move || networks.route(netns.as_fd(), gateway.as_ref())).await;
    routed.map_err(Error::system)?.map_err(|error| failure(&error))?;
    let open = engine
        .inner()
        .networks
        .as_ref()
        .is_some_and(|networks| record.endpoints.iter().any(|endpoint| networks.has_ports(&endpoint.id)));
    if !open {
        record.ports.clear();
        if let Some(endpoint) = &endpoint {
            record.ports = publish(engine, record, endpoint).await?;
        }
    }
    Ok(())
}

/// The line of `/etc/hosts` for one of a container's own addresses.
fn host_line(record: &Record, address: std::net::IpAddr) -> String {
    network::names::own_line(&record.config.hostname, &record.config.domainname, address)
}

/// The file is mounted in the container, so it is changed in place.
fn add_host(container: &Container, line: &str) {
    let file = OpenOptions::new().append(true).open(container.file("hosts"));
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        tracing::warn!("hosts of container {}: {error}", container.id);
    }
}

fn remove_host(container: &Container, line: &str) {
    let path = container.file("hosts");
    let changed = fs::read_to_string(&path).and_then(|text| {
        let rest: String = text.split_inclusive('\n').filter(|other| *other != line).collect();
        fs::write(&path, rest)
    });
    if let Err(error) = changed {
        tracing::warn!("hosts of container {}: {error}", container.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_interfaces_own_parameters_can_be_set() {
        let settings = |text: &str| EndpointSettings {
            driver_opts: Some([(PARAMETERS.to_owned(), text.to_owned())].into()),
            ..EndpointSettings::default()
        };
        let read = parameters(&settings("net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.mtu=1400"));
        assert_eq!(read.unwrap()[1], ("net.ipv6.conf.IFNAME.mtu".to_owned(), "1400".to_owned()));
        for wrong in
            ["net.ipv4.ip_forward=1", "net.ipv4.conf.IFNAME./../x=1", "kernel.x.conf.IFNAME.a=1", "a"]
        {
            assert!(parameters(&settings(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_and_aliases_are_for_users_networks() {
        let settings: EndpointSettings =
            serde_json::from_str(r#"{"IPAMConfig":{"IPv4Address":"10.0.0.5"}}"#).unwrap();
        let error = check(&Which::Builtin("bridge"), &settings).unwrap_err();
        assert_eq!(error.message, "user specified IP address is supported on user defined networks only");
        let settings: EndpointSettings = serde_json::from_str(r#"{"Aliases":["db"]}"#).unwrap();
        assert!(check(&Which::Builtin("bridge"), &settings).is_err());
        assert!(check(&Which::Builtin("bridge"), &EndpointSettings::default()).is_ok());
    }
}
