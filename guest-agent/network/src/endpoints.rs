//! Endpoints: containers on networks, from attach to detach, and what survives a restart.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::netlink::link::Veth;
use sys::netlink::{Request, Socket, link};

use crate::error::{NetworkError, Result, kernel};
use crate::networks::{Inner, Network, Networks, State};
use crate::publish::{PublishError, PublishSpec, PublishedPort};
use crate::reaper;
use crate::sandbox::{self, Interface};
use crate::spec::{
    AttachSpec, Endpoint, EndpointId, EndpointRecord, InterfaceAddress, MacAddress, PortBinding, PortSpec,
    Protocol,
};

/// An endpoint and the ports that lead to it.
pub(crate) struct Member {
    pub(crate) record: EndpointRecord,
    ports: Vec<Box<dyn PublishedPort>>,
    bindings: Vec<PortBinding>,
}

/// Where published ports of an endpoint lead.
struct Target {
    /// The endpoint's address; none on an internal network.
    address: Option<IpAddr>,
    /// The address to publish on when a port names none.
    host_ip: Option<IpAddr>,
}

impl Networks {
    /// Puts a container on a network.
    pub fn attach(&self, mut spec: AttachSpec) -> Result<Endpoint> {
        let netns = spec.netns.take();
        let record = self.0.lease(&spec)?;
        let result = self.0.connect(&record, &spec, netns);
        match result {
            Ok(netns) => Ok(Endpoint { netns, record }),
            Err(error) => {
                // Nothing is left behind, and the first failure is the one to tell.
                let _ = self.detach(&record.id);
                Err(error)
            }
        }
    }

    /// Publishes ports of an endpoint: all of them or none. `name` is the container's, for the message.
    pub async fn publish(&self, id: &EndpointId, name: &str, ports: &[PortSpec]) -> Result<Vec<PortBinding>> {
        let Target { address, host_ip } = self.0.target(id)?;
        // Nobody outside reaches an internal network, so nothing is published on one, as with dockerd.
        let Some(target) = address else { return Ok(Vec::new()) };
        let mut open: Vec<Box<dyn PublishedPort>> = Vec::new();
        let mut bindings = Vec::new();
        for port in ports {
            let failed = |source| NetworkError::Publish {
                name: name.to_owned(),
                endpoint: id.clone(),
                source: Box::new(source),
            };
            let port = PortSpec { host_ip: port.host_ip.or(host_ip), ..port.clone() };
            let published = self.0.publish_one(&port, target, &bindings).await.map_err(failed)?;
            bindings.extend(published.addresses().iter().map(|address| PortBinding {
                container_port: port.container_port,
                protocol: port.protocol,
                host_ip: address.ip(),
                host_port: address.port(),
            }));
            open.push(published);
        }
        let mut guard = self.0.state();
        let state = &mut *guard;
        // The endpoint may have gone meanwhile; its ports then close with `open`.
        let member = state.members.get_mut(id).ok_or_else(|| NetworkError::NoSuchEndpoint(id.clone()))?;
        for binding in &bindings {
            state.published.entry((binding.protocol, binding.host_port)).or_default().push(binding.host_ip);
        }
        member.ports.extend(open);
        member.bindings.extend(bindings.iter().cloned());
        Ok(bindings)
    }

    /// Whether ports are published by this endpoint.
    pub fn has_ports(&self, id: &EndpointId) -> bool {
        self.0.state().members.get(id).is_some_and(|member| !member.bindings.is_empty())
    }

    /// Takes a container off a network; its ports close, its address is free again.
    pub fn detach(&self, id: &EndpointId) -> Result<()> {
        let mut guard = self.0.state();
        let state = &mut *guard;
        let member = state.members.remove(id).ok_or_else(|| NetworkError::NoSuchEndpoint(id.clone()))?;
        self.0.dns.remove(&member.record);
        state.forget_bindings(&member.bindings);
        drop(member.ports);
        let link = member.record.host_link.clone();
        let mut request = Request::new();
        link::silence_port(&mut request, &link);
        let result = match state.route.request(request) {
            // The namespace ended first and took the link with it.
            Err(error) if error.errno() == libc::ENODEV => Ok(()),
            silenced => {
                self.0.reaper.remove(link.clone());
                silenced.map_err(|error| kernel(format!("silence link `{link}`"), error))
            }
        };
        // Only now: until it is silent, somebody may answer for the address.
        if let Some(network) = state.networks.get_mut(&member.record.network) {
            network.members -= 1;
            network.give_back(&member.record);
        }
        result
    }

    /// Leads what a container has no nearer route for to the gateways of this endpoint, or nowhere.
    pub fn route(&self, netns: BorrowedFd<'_>, endpoint: Option<&EndpointRecord>) -> Result<()> {
        let gateways: Vec<IpAddr> = endpoint.into_iter().flat_map(EndpointRecord::gateways).collect();
        let failed = |error| kernel("set the default route of a container", error);
        let mut inside = sandbox::open(netns).map_err(|error| failed(error.into()))?;
        sandbox::route(&mut inside, &gateways).map_err(failed)
    }

    /// After a restart, when all networks are created: takes over the endpoints that live, drops every link
    /// and forwarding rule of this engine that belongs to none. Then `publish` the live ones' ports anew.
    pub fn recover(&self, live: &[EndpointRecord]) -> Result<()> {
        let mut guard = self.0.state();
        let state = &mut *guard;
        let mut failures = Vec::new();
        for record in live {
            match state.networks.get_mut(&record.network) {
                None => failures.push(NetworkError::NoSuchNetwork(record.network.clone())),
                Some(network) => {
                    failures.extend(network.take_again(record).err());
                    self.0.dns.add(record);
                    network.members += 1;
                    let member = Member { record: record.clone(), ports: Vec::new(), bindings: Vec::new() };
                    state.members.insert(record.id.clone(), member);
                }
            }
        }
        match link::dump(&mut state.route) {
            Ok(links) => failures.extend(self.0.drop_stale_links(state, &links)),
            Err(error) => failures.push(kernel("list links", error)),
        }
        let networks: Vec<_> = state
            .networks
            .values()
            .filter(|network| network.bridge.is_some())
            .map(Network::filtered)
            .collect();
        let targets: Vec<Ipv4Addr> =
            live.iter().filter_map(|record| record.ipv4).map(|ipv4| ipv4.address).collect();
        if !networks.is_empty() {
            let kept = self.0.filter().keep_only(&networks, &targets);
            failures.extend(kept.err().map(|error| kernel("drop stale packet filter elements", error)));
        }
        NetworkError::all(failures)
    }
}

impl Inner {
    /// Takes addresses and a key for a new endpoint.
    fn lease(&self, spec: &AttachSpec) -> Result<EndpointRecord> {
        let mut guard = self.state();
        let state = &mut *guard;
        let network = state
            .networks
            .get_mut(&spec.network)
            .ok_or_else(|| NetworkError::NoSuchNetwork(spec.network.clone()))?;
        let interface = spec.interface.clone().unwrap_or_else(|| "eth0".to_owned());
        if !link::is_valid_name(&interface) {
            return Err(NetworkError::InvalidLinkName(interface));
        }
        self.make_bridge(&mut state.route, network)?;
        let (id, host_link) = loop {
            let id = random_id()?;
            let host_link = format!("{}{}", self.instance.port_prefix, &id[..6]);
            if !state.members.values().any(|member| member.record.host_link == host_link) {
                break (EndpointId(id), host_link);
            }
        };
        let mut record = EndpointRecord {
            id,
            container: spec.container.clone(),
            network: spec.network.clone(),
            interface,
            host_link,
            ipv4: None,
            ipv6: None,
            gateway: None,
            gateway_v6: None,
            mac: MacAddress([0; 6]),
            names: spec.names.clone(),
            links: spec.links.clone(),
        };
        if let Err(error) = network.lease(spec, &mut record) {
            network.give_back(&record);
            return Err(error);
        }
        network.members += 1;
        self.dns.add(&record);
        let member = Member { record: record.clone(), ports: Vec::new(), bindings: Vec::new() };
        state.members.insert(record.id.clone(), member);
        Ok(record)
    }

    /// Makes the veth pair and configures its end inside.
    fn connect(&self, record: &EndpointRecord, spec: &AttachSpec, netns: Option<OwnedFd>) -> Result<OwnedFd> {
        let failed = |error: std::io::Error| kernel("make a network namespace", error.into());
        let (netns, mut inside) = match netns {
            Some(netns) => {
                let socket = sandbox::open(netns.as_fd())
                    .map_err(|error| kernel("enter the container's network namespace", error.into()))?;
                (netns, socket)
            }
            None => self.fresh_sandbox().map_err(failed)?,
        };
        self.add_veth(record, &netns)?;
        let configured = self.configure(spec, record, &netns, &mut inside);
        configured.map(|()| netns)
    }

    fn add_veth(&self, record: &EndpointRecord, netns: &OwnedFd) -> Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        let network = state
            .networks
            .get_mut(&record.network)
            .ok_or_else(|| NetworkError::NoSuchNetwork(record.network.clone()))?;
        let bridge = self.make_bridge(&mut state.route, network)?;
        let veth = Veth {
            name: &record.host_link,
            master: bridge.index,
            peer: &record.interface,
            peer_mac: record.mac.0,
            namespace: netns.as_fd(),
            mtu: network.record.mtu,
            isolated: network.isolated,
        };
        let mut request = Request::new();
        link::add_veth(&mut request, &veth);
        state.route.request(request).map_err(|error| {
            kernel(
                format!("create interface `{}` on bridge `{}`", record.interface, network.record.link),
                error,
            )
        })
    }

    fn configure(
        &self,
        spec: &AttachSpec,
        record: &EndpointRecord,
        netns: &OwnedFd,
        inside: &mut Socket,
    ) -> Result<()> {
        let name = &record.interface;
        let failed = |error| kernel(format!("configure interface `{name}`"), error);
        if record.ipv6.is_some() {
            sandbox::enable_ipv6(netns.as_fd(), name).map_err(|error| failed(error.into()))?;
        }
        let gateways = if spec.default_route { record.gateways().collect() } else { Vec::new() };
        let interface = Interface { name, ipv4: record.ipv4, ipv6: record.ipv6, gateways };
        sandbox::configure(inside, &interface).map_err(failed)?;
        if !spec.parameters.is_empty() {
            sandbox::set_parameters(netns.as_fd(), name, &spec.parameters)
                .map_err(|error| kernel(format!("set parameters of interface `{name}`"), error.into()))?;
        }
        Ok(())
    }

    fn target(&self, id: &EndpointId) -> Result<Target> {
        let state = self.state();
        let member = state.members.get(id).ok_or_else(|| NetworkError::NoSuchEndpoint(id.clone()))?;
        let network = state.networks.get(&member.record.network).map(|network| &network.record);
        let internal = network.is_some_and(|network| network.internal);
        Ok(Target {
            address: member.record.addresses().next().filter(|_| !internal),
            host_ip: network.and_then(|network| network.host_ip),
        })
    }

    /// Opens the first port of the range that is free.
    async fn publish_one(
        &self,
        port: &PortSpec,
        target: IpAddr,
        mine: &[PortBinding],
    ) -> std::result::Result<Box<dyn PublishedPort>, PublishError> {
        let target = SocketAddr::new(target, port.container_port);
        let mut host_port = port.host_port;
        loop {
            let spec = PublishSpec { host_ip: port.host_ip, host_port, protocol: port.protocol, target };
            let result = match self.allocated(&spec, mine) {
                Some(error) => Err(error),
                None => self.publisher.publish(&spec).await,
            };
            match result {
                Err(_) if host_port != 0 && host_port < port.host_port_end => host_port += 1,
                result => return result,
            }
        }
    }

    /// Whether one of our own endpoints has the port, so that the message says so.
    fn allocated(&self, spec: &PublishSpec, mine: &[PortBinding]) -> Option<PublishError> {
        let state = self.state();
        let others = state.published.get(&(spec.protocol, spec.host_port)).into_iter().flatten();
        let same = |port: &&PortBinding| port.protocol == spec.protocol && port.host_port == spec.host_port;
        let mine = mine.iter().filter(same).map(|port| &port.host_ip);
        let clash = others.chain(mine).any(|taken| clashes(spec.host_ip, *taken));
        clash.then(|| {
            let ip = spec.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            PublishError::Allocated { address: SocketAddr::new(ip, spec.host_port) }
        })
    }

    /// Removes ports of ours that belong to no endpoint and bridges of ours that belong to no network.
    fn drop_stale_links(&self, state: &mut State, links: &[link::Link]) -> Vec<NetworkError> {
        let ports: HashSet<&str> =
            state.members.values().map(|member| member.record.host_link.as_str()).collect();
        let bridges: HashSet<&str> =
            state.networks.values().map(|network| network.record.link.as_str()).collect();
        let ours = |link: &link::Link| link.alias.as_deref() == Some(&self.instance.alias);
        // Another engine's ports could begin as ours do, but they are under its own bridges.
        let our_bridges: HashSet<u32> =
            state.networks.values().filter_map(|network| network.bridge).map(|bridge| bridge.index).collect();
        let under_ours = |link: &link::Link| {
            link.master.is_none_or(|master| {
                our_bridges.contains(&master)
                    || links.iter().any(|other| other.index == master && ours(other))
            })
        };
        let stale: Vec<&str> = links
            .iter()
            .filter(|link| {
                let port = link.name.starts_with(&self.instance.port_prefix) && under_ours(link);
                (port && !ports.contains(link.name.as_str()))
                    || (ours(link) && !bridges.contains(link.name.as_str()))
            })
            .map(|link| link.name.as_str())
            .collect();
        if !stale.is_empty() {
            tracing::info!(links = ?stale, "removing links that an earlier run left");
        }
        stale.iter().filter_map(|name| reaper::remove(&mut state.route, name).err()).collect()
    }
}

impl State {
    fn forget_bindings(&mut self, bindings: &[PortBinding]) {
        for binding in bindings {
            let key: (Protocol, u16) = (binding.protocol, binding.host_port);
            if let Some(addresses) = self.published.get_mut(&key) {
                if let Some(index) = addresses.iter().position(|address| *address == binding.host_ip) {
                    addresses.swap_remove(index);
                }
                if addresses.is_empty() {
                    self.published.remove(&key);
                }
            }
        }
    }
}

impl Network {
    /// Fills in the record's addresses and gateways.
    fn lease(&mut self, spec: &AttachSpec, record: &mut EndpointRecord) -> Result<()> {
        let routed = !self.record.internal;
        for (subnet, addresses) in self.record.subnets.iter().zip(&mut self.addresses) {
            let wanted = if subnet.subnet.is_ipv4() {
                spec.ipv4.filter(|_| record.ipv4.is_none()).map(IpAddr::V4)
            } else {
                spec.ipv6.filter(|_| record.ipv6.is_none()).map(IpAddr::V6)
            };
            let has_one = if subnet.subnet.is_ipv4() { record.ipv4.is_some() } else { record.ipv6.is_some() };
            let address = match wanted {
                _ if has_one => continue,
                Some(wanted) if !subnet.subnet.contains(wanted) => continue,
                Some(wanted) => addresses.take_this(wanted).map(|()| wanted)?,
                None => match addresses.take() {
                    Some(address) => address,
                    None => continue,
                },
            };
            let prefix = subnet.subnet.prefix();
            match (address, subnet.gateway) {
                (IpAddr::V4(address), IpAddr::V4(gateway)) => {
                    record.ipv4 = Some(InterfaceAddress { address, prefix });
                    record.gateway = routed.then_some(gateway);
                    record.mac = MacAddress::of(address);
                }
                (IpAddr::V6(address), IpAddr::V6(gateway)) => {
                    record.ipv6 = Some(InterfaceAddress { address, prefix });
                    record.gateway_v6 = routed.then_some(gateway);
                }
                _ => {}
            }
        }
        record.mac = spec.mac.unwrap_or(record.mac);
        self.check_lease(spec, record)
    }

    fn check_lease(&self, spec: &AttachSpec, record: &EndpointRecord) -> Result<()> {
        match (spec.ipv4, spec.ipv6) {
            (Some(wanted), _) if record.ipv4.is_none() => {
                Err(NetworkError::AddressOutside { address: wanted.into() })
            }
            (_, Some(wanted)) if record.ipv6.is_none() => {
                Err(NetworkError::AddressOutside { address: wanted.into() })
            }
            _ if record.ipv4.is_none() => Err(NetworkError::AddressesExhausted {
                name: self.record.name.clone(),
                id: self.record.id.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn take_again(&mut self, record: &EndpointRecord) -> Result<()> {
        for address in record.addresses() {
            if let Some(owner) = self.addresses.iter_mut().find(|pool| pool.subnet().contains(address)) {
                owner.take_this(address)?;
            }
        }
        Ok(())
    }

    fn give_back(&mut self, record: &EndpointRecord) {
        for address in record.addresses() {
            for pool in &mut self.addresses {
                pool.give_back(address);
            }
        }
    }
}

/// Whether a port wanted on `wanted` is taken by one published on `taken`.
fn clashes(wanted: Option<IpAddr>, taken: IpAddr) -> bool {
    match wanted {
        None => true,
        Some(wanted) if wanted.is_ipv4() != taken.is_ipv4() => false,
        Some(wanted) => wanted == taken || wanted.is_unspecified() || taken.is_unspecified(),
    }
}

/// 64 hex digits, as Docker's ids are.
fn random_id() -> Result<String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| kernel("read random bytes", std::io::Error::from(error).into()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn a_port_clashes_with_the_same_address_and_with_all_addresses_of_its_family() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(clashes(None, ip("127.0.0.1")));
        assert!(clashes(Some(ip("0.0.0.0")), ip("127.0.0.1")));
        assert!(clashes(Some(ip("127.0.0.1")), ip("0.0.0.0")));
        assert!(!clashes(Some(ip("127.0.0.1")), ip("127.0.0.2")));
        assert!(!clashes(Some(ip("0.0.0.0")), Ipv6Addr::UNSPECIFIED.into()));
    }
}
