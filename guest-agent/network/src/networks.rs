//! The networks of one engine: which exist, and the bridges that make them so.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sys::netlink::{Family, Request, Socket, link, namespace};

use crate::dns::Dns;
use crate::endpoints::Member;
use crate::error::{NetworkError, Result, kernel};
use crate::filter::{Filter, FilteredNetwork};
use crate::ipam::{self, Addresses};
use crate::native::Native;
use crate::publish::{Publisher, Publishing};
use crate::reaper::{self, Reaper};
use crate::sandbox::Maker;
use crate::spec::{
    AddressPool, EndpointId, MacAddress, NetworkConfig, NetworkRecord, NetworkSpec, Protocol, RedirectSpec,
    SubnetRecord, SubnetSpec,
};
use crate::subnet::Subnet;

/// Where Linux keeps whether it forwards IPv4, of the namespace of whoever opens it.
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// The same for IPv6.
const IPV6_FORWARD: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// The networks of one engine. Cloning gives another handle on the same ones.
///
/// Methods block for some hundred microseconds (netlink); `publish` alone is asynchronous.
#[derive(Clone)]
pub struct Networks(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) instance: Instance,
    pools: Vec<AddressPool>,
    masquerade: bool,
    ip_forward: bool,
    lazy: bool,
    pub(crate) publisher: Arc<dyn Publisher>,
    pub(crate) filter: Arc<Mutex<Filter>>,
    pub(crate) reaper: Reaper,
    pub(crate) dns: Dns,
    /// Started with the first need, which in the VM is long after the engine's start.
    maker: Mutex<Option<Maker>>,
    /// The namespace that all work is done in.
    home: OwnedFd,
    state: Mutex<State>,
}

/// What of this engine's names tells it from another engine's.
pub(crate) struct Instance {
    table: String,
    /// The text that our bridges carry.
    pub(crate) alias: String,
    /// How the names of our ports begin.
    pub(crate) port_prefix: String,
    /// The group of links about to be removed.
    group: u32,
}

pub(crate) struct State {
    pub(crate) route: Socket,
    pub(crate) networks: BTreeMap<String, Network>,
    pub(crate) members: HashMap<EndpointId, Member>,
    /// The addresses on which a port is published, by protocol and number.
    pub(crate) published: HashMap<(Protocol, u16), Vec<IpAddr>>,
}

pub(crate) struct Network {
    pub(crate) record: NetworkRecord,
    /// One per subnet of the record, in its order.
    pub(crate) addresses: Vec<Addresses>,
    /// Whether members are cut off from each other.
    pub(crate) isolated: bool,
    masquerade: bool,
    pub(crate) bridge: Option<Bridge>,
    pub(crate) members: usize,
}

/// The kernel's side of a network.
#[derive(Clone, Copy)]
pub(crate) struct Bridge {
    pub(crate) index: u32,
    /// Whether we made it: somebody else's is not removed.
    owned: bool,
}

impl Networks {
    /// Opens netlink in the calling thread's network namespace, which all work is done in from then on.
    pub fn new(config: NetworkConfig) -> Result<Networks> {
        let instance = Instance::of(&config.instance);
        let failed = |source| NetworkError::Kernel { operation: "open netlink".to_owned(), source };
        let filter = Filter::open(instance.table.clone()).map_err(failed)?;
        let route = Socket::open(Family::Route).map_err(failed)?;
        let reaper = Reaper::start(instance.group).map_err(failed)?;
        let filter = Arc::new(Mutex::new(filter));
        let publisher = match config.publishing {
            Publishing::Native => Arc::new(Native::new(filter.clone())),
            Publishing::Through(publisher) => publisher,
        };
        let state =
            State { route, networks: BTreeMap::new(), members: HashMap::new(), published: HashMap::new() };
        Ok(Networks(Arc::new(Inner {
            instance,
            pools: if config.pools.is_empty() { ipam::default_pools() } else { config.pools },
            masquerade: config.masquerade,
            ip_forward: config.ip_forward,
            lazy: config.lazy,
            publisher,
            filter,
            reaper,
            dns: Dns::default(),
            maker: Mutex::new(None),
            home: namespace::current().map_err(failed)?,
            state: Mutex::new(state),
        })))
    }

    /// Makes a network, or takes over the bridge that an earlier run of this engine left.
    pub fn create(&self, spec: &NetworkSpec) -> Result<NetworkRecord> {
        let mut state = self.0.state();
        if state.networks.contains_key(&spec.id) {
            return Err(NetworkError::NetworkExists(spec.id.clone()));
        }
        let id = spec.id.get(..12).unwrap_or(&spec.id);
        let name = spec.link.clone().unwrap_or_else(|| format!("br-{id}"));
        if !link::is_valid_name(&name) {
            return Err(NetworkError::InvalidLinkName(name));
        }
        let existing = link::find(&mut state.route, &name)
            .map_err(|error| kernel(format!("look for bridge `{name}`"), error))?;
        if existing.as_ref().is_some_and(|link| link.kind.as_deref() != Some("bridge")) {
            return Err(NetworkError::NotABridge(name));
        }
        let mut subnets = spec.subnets.clone();
        if !subnets.iter().any(|wanted| wanted.subnet.is_ipv4()) {
            let index = existing.as_ref().map(|link| link.index);
            subnets.insert(0, self.0.choose_subnet(&mut state, index)?);
        }
        if spec.ipv6 && subnets.iter().all(|wanted| wanted.subnet.is_ipv4()) {
            subnets.push(SubnetSpec::of(ipam::unique_local_subnet(&spec.id)?));
        }
        subnets.sort_by_key(|wanted| !wanted.subnet.is_ipv4());
        let mut network = self.0.plan(spec, name, &subnets)?;
        let taken = |new: &SubnetRecord| {
            state
                .networks
                .values()
                .flat_map(|other| &other.record.subnets)
                .any(|old| old.subnet.overlaps(&new.subnet))
        };
        if network.record.subnets.iter().any(taken) {
            return Err(NetworkError::PoolOverlaps);
        }
        if existing.is_some() || !self.0.lazy {
            self.0.make_bridge(&mut state.route, &mut network)?;
        }
        let record = network.record.clone();
        self.0.dns.add_network(&record);
        state.networks.insert(spec.id.clone(), network);
        Ok(record)
    }

    /// Removes a network without endpoints.
    pub fn remove(&self, id: &str) -> Result<()> {
        let mut state = self.0.state();
        let network = state.networks.get(id).ok_or_else(|| NetworkError::NoSuchNetwork(id.to_owned()))?;
        if network.members > 0 {
            return Err(NetworkError::NetworkInUse { name: network.record.name.clone() });
        }
        match state.networks.remove(id) {
            Some(network) => {
                self.0.dns.remove_network(id);
                self.0.remove_bridge(&mut state.route, &network)
            }
            None => Ok(()),
        }
    }

    /// Waits until the links of detached endpoints are gone; `detach` itself only silences them.
    pub fn settle(&self) {
        self.0.reaper.settle();
    }

    /// Every network.
    pub fn list(&self) -> Vec<NetworkRecord> {
        self.0.state().networks.values().map(|network| network.record.clone()).collect()
    }

    /// A fresh network namespace in which only loopback is up (network mode `none`).
    pub fn sandbox(&self) -> Result<OwnedFd> {
        let fresh =
            self.0.fresh_sandbox().map_err(|error| kernel("make a network namespace", error.into()))?;
        Ok(fresh.0)
    }

    /// Sends outgoing TCP connections of all containers to a listener on this machine. Works where there is no
    /// route to anywhere, as the packets are caught on their way in.
    pub fn redirect_egress(&self, spec: &RedirectSpec) -> Result<()> {
        self.0
            .filter()
            .redirect_egress(spec.port)
            .map_err(|error| kernel("redirect outgoing connections", error))
    }

    /// At the engine's clean end: removes every link and the table of this engine.
    pub fn close(&self) -> Result<()> {
        let members: Vec<EndpointId> = self.0.state().members.keys().cloned().collect();
        let mut failures: Vec<NetworkError> = members.iter().filter_map(|id| self.detach(id).err()).collect();
        self.0.reaper.settle();
        let mut state = self.0.state();
        let networks = std::mem::take(&mut state.networks);
        for network in networks.values() {
            failures.extend(self.0.remove_bridge(&mut state.route, network).err());
        }
        let removed = self.0.filter().remove();
        failures.extend(removed.err().map(|error| kernel("remove the packet filter's table", error)));
        NetworkError::all(failures)
    }
}

impl Instance {
    fn of(text: &str) -> Instance {
        // FNV-1a: short names that differ between engines and are the same after a restart.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let digits = format!("{hash:016x}");
        Instance {
            table: format!("sampan-{}", &digits[..8]),
            alias: format!("sampan-{}", &digits[..8]),
            port_prefix: format!("veth{}", &digits[..5]),
            // Group 0 is everybody's.
            group: (hash >> 33) as u32 | 1 << 30,
        }
    }
}

impl Inner {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete before a call that could panic, so it is sound after one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A network namespace with loopback up, and a netlink socket in it.
    pub(crate) fn fresh_sandbox(&self) -> io::Result<(OwnedFd, Socket)> {
        let mut maker = self.maker.lock().unwrap_or_else(PoisonError::into_inner);
        if maker.is_none() {
            *maker = Some(namespace::within(self.home.as_fd(), Maker::start)?);
        }
        maker.as_ref().map_or_else(|| Err(io::ErrorKind::NotFound.into()), Maker::take)
    }

    pub(crate) fn filter(&self) -> MutexGuard<'_, Filter> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The existing bridge's own subnet, or the first of the pools that clashes with nothing on this machine.
    fn choose_subnet(&self, state: &mut State, existing: Option<u32>) -> Result<SubnetSpec> {
        let failed = |error| kernel("read this machine's addresses and routes", error);
        let addresses = link::dump_addresses(&mut state.route).map_err(failed)?;
        let routes = link::dump_routes(&mut state.route).map_err(failed)?;
        let own = addresses.iter().find(|(index, address, _)| Some(*index) == existing && address.is_ipv4());
        if let Some((_, gateway, prefix)) = own
            && let Some(subnet) = Subnet::new(*gateway, *prefix)
        {
            return Ok(SubnetSpec { subnet, range: None, gateway: Some(*gateway), reserved: Vec::new() });
        }
        let machine = addresses.iter().chain(&routes);
        let ours = state.networks.values().flat_map(|network| network.record.subnets.iter());
        let taken: Vec<Subnet> = machine
            .filter(|(_, address, prefix)| *prefix > 0 && !address.is_loopback())
            .filter_map(|(_, address, prefix)| Subnet::new(*address, *prefix))
            .chain(ours.map(|record| record.subnet))
            .collect();
        Ok(SubnetSpec::of(ipam::choose_subnet(&self.pools, &taken)?))
    }

    fn plan(&self, spec: &NetworkSpec, link: String, subnets: &[SubnetSpec]) -> Result<Network> {
        let mut records = Vec::new();
        let mut addresses = Vec::new();
        for wanted in subnets {
            let subnet = wanted.subnet;
            // Docker takes the first address of the range for the gateway when there is a range.
            let first = wanted.range.map_or(subnet, |range| range);
            let default = if first.first() == subnet.first() { subnet.nth(1) } else { Some(first.first()) };
            let too_small = NetworkError::UnusableSubnet { subnet, reason: "it has no room for a gateway" };
            let gateway = wanted.gateway.or(default).ok_or(too_small)?;
            let mut reserved = wanted.reserved.clone();
            reserved.push(gateway);
            addresses.push(Addresses::new(subnet, wanted.range, &reserved)?);
            records.push(SubnetRecord { subnet, gateway });
        }
        Ok(Network {
            record: NetworkRecord {
                id: spec.id.clone(),
                name: spec.name.clone(),
                link,
                subnets: records,
                internal: spec.internal,
                mtu: spec.mtu,
                host_ip: spec.host_ip,
            },
            addresses,
            isolated: spec.members_talk == Some(false),
            masquerade: spec.masquerade.unwrap_or(self.masquerade) && !spec.internal,
            bridge: None,
            members: 0,
        })
    }

    /// Makes the bridge unless it is there, and everything about it as it should be.
    pub(crate) fn make_bridge(&self, route: &mut Socket, network: &mut Network) -> Result<Bridge> {
        if let Some(bridge) = network.bridge {
            return Ok(bridge);
        }
        let name = network.record.link.clone();
        let find = |route: &mut Socket| {
            link::find(route, &name).map_err(|error| kernel(format!("look for bridge `{name}`"), error))
        };
        let before = find(route)?;
        let made = before.is_none();
        if made {
            let mut request = Request::new();
            link::add_bridge(&mut request, &name, network.mac().0, network.record.mtu);
            route.request(request).map_err(|error| kernel(format!("create bridge `{name}`"), error))?;
        }
        let Some(found) = before.map_or_else(|| find(route), |link| Ok(Some(link)))? else {
            return Err(NetworkError::NotABridge(name));
        };
        let owned = made || found.alias.as_deref() == Some(&self.instance.alias);
        let bridge = Bridge { index: found.index, owned };
        network.bridge = Some(bridge);
        if let Err(error) = self.configure_bridge(route, network, bridge) {
            network.bridge = None;
            if made {
                let mut request = Request::new();
                link::delete(&mut request, &name);
                let _ = route.request(request);
            }
            return Err(error);
        }
        Ok(bridge)
    }

    fn configure_bridge(&self, route: &mut Socket, network: &Network, bridge: Bridge) -> Result<()> {
        let name = &network.record.link;
        let has_ipv6 = network.record.subnets.iter().any(|record| !record.subnet.is_ipv4());
        if has_ipv6 {
            fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0")
                .map_err(|error| kernel(format!("switch on IPv6 of bridge `{name}`"), error.into()))?;
        }
        let mut request = Request::new();
        if bridge.owned {
            link::set_alias(&mut request, bridge.index, &self.instance.alias);
        }
        for SubnetRecord { subnet, gateway } in &network.record.subnets {
            let broadcast = gateway.is_ipv4().then(|| subnet.last());
            link::add_address(&mut request, bridge.index, *gateway, subnet.prefix(), broadcast);
        }
        link::set_up(&mut request, bridge.index);
        // A connection from this machine's own 127.0.0.1 to a published port leaves by the bridge, and its
        // answers come back by it. The filter keeps containers from abusing that.
        link::set_ipv4_setting(&mut request, bridge.index, link::ROUTE_LOCALNET, 1);
        route.request(request).map_err(|error| kernel(format!("configure bridge `{name}`"), error))?;
        let forward = self.ip_forward && !network.record.internal;
        if forward {
            fs::write(IP_FORWARD, "1").map_err(|error| kernel("switch on IPv4 forwarding", error.into()))?;
        }
        if has_ipv6 && forward {
            fs::write(IPV6_FORWARD, "1")
                .map_err(|error| kernel("switch on IPv6 forwarding", error.into()))?;
        }
        self.filter()
            .add_network(&network.filtered())
            .map_err(|error| kernel(format!("let packets of bridge `{name}` pass"), error))
    }

    fn remove_bridge(&self, route: &mut Socket, network: &Network) -> Result<()> {
        let Some(bridge) = network.bridge else { return Ok(()) };
        let name = &network.record.link;
        let mut failures = Vec::new();
        if bridge.owned {
            failures.extend(reaper::remove(route, name).err());
        }
        let removed = self.filter().remove_network(&network.filtered());
        failures.extend(removed.err().map(|error| kernel(format!("forget bridge `{name}`"), error)));
        NetworkError::all(failures)
    }
}

impl Network {
    pub(crate) fn filtered(&self) -> FilteredNetwork {
        FilteredNetwork {
            link: self.record.link.clone(),
            subnets: self.record.subnets.iter().map(|record| record.subnet).collect(),
            internal: self.record.internal,
            masquerade: self.masquerade,
        }
    }

    /// A bridge takes its lowest port's hardware address unless it has its own; neighbours would notice.
    fn mac(&self) -> MacAddress {
        let gateway = self.record.subnets.iter().find_map(|record| match record.gateway {
            IpAddr::V4(gateway) => Some(gateway),
            IpAddr::V6(_) => None,
        });
        MacAddress::of(gateway.unwrap_or(Ipv4Addr::UNSPECIFIED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_instance_are_its_own_and_stay() {
        let (one, other) = (Instance::of("/var/lib/one"), Instance::of("/var/lib/other"));
        assert_eq!(one.table, Instance::of("/var/lib/one").table);
        assert_ne!(one.table, other.table);
        assert_ne!(one.port_prefix, other.port_prefix);
        assert_eq!(one.port_prefix.len(), 9);
    }
}
