//! The packet filter: one nftables table whose rules never change.
//!
//! ```text
//! raw          from a container to 127.0.0.0/8                       drop (loopback is routable on our bridges)
//! prerouting   to an address of this machine, port published         rewrite to the container
//! output       the same for connections made on this machine
//! forward      of a known connection, or rewritten                   accept
//!              between two of our bridges, from or to an internal    drop
//!              into one of our bridges from outside                  drop
//! postrouting  from a bridge to the outside                          masquerade
//!              rewritten, from a container to a container (hairpin)  masquerade
//!              from this machine's loopback address                  masquerade
//! ```
//!
//! Networks are elements of sets and published ports elements of two hash maps, so a change is one small
//! transaction whatever their number. The chains accept what they do not know: other engines and other
//! software on the machine decide about their own packets.
//!
//! The table outlives the engine on purpose, as published ports must go on while it restarts.
//! [`Filter::keep_only`] then drops what is stale.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use sys::netlink::nft::{
    Batch, Chain, Conntrack, Element, Hook, Meta, Register, Rule, Set, Type, dump_elements,
};
use sys::netlink::{Error, Family, Socket, conntrack};

use crate::spec::Protocol;
use crate::subnet::Subnet;

const BRIDGES: &str = "bridges";
const INTERNAL: &str = "internal";
const MASQUERADED: &str = "masqueraded";
const WITHIN: &str = "within";
const SUBNETS: &str = "subnets";
const PORTS: &str = "ports";
const PORTS_ON: &str = "ports_on";

const SETS: [Set<'static>; 7] = [
    Set { name: BRIDGES, key: &[Type::InterfaceName], data: &[], intervals: false },
    Set { name: INTERNAL, key: &[Type::InterfaceName], data: &[], intervals: false },
    Set { name: MASQUERADED, key: &[Type::InterfaceName], data: &[], intervals: false },
    Set { name: WITHIN, key: &[Type::InterfaceName, Type::InterfaceName], data: &[], intervals: false },
    Set { name: SUBNETS, key: &[Type::Ipv4], data: &[], intervals: true },
    Set {
        name: PORTS,
        key: &[Type::Protocol, Type::Port],
        data: &[Type::Ipv4, Type::Port],
        intervals: false,
    },
    Set {
        name: PORTS_ON,
        key: &[Type::Ipv4, Type::Protocol, Type::Port],
        data: &[Type::Ipv4, Type::Port],
        intervals: false,
    },
];

const RAW: &str = "raw";
const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const FORWARD: &str = "forward";
const POSTROUTING: &str = "postrouting";

/// Priorities are nft's own names: raw, dstnat, filter, srcnat.
const CHAINS: [Chain<'static>; 5] = [
    Chain { name: RAW, kind: "filter", hook: Hook::Prerouting, priority: -300, drop: None },
    Chain { name: PREROUTING, kind: "nat", hook: Hook::Prerouting, priority: -100, drop: None },
    Chain { name: OUTPUT, kind: "nat", hook: Hook::Output, priority: -100, drop: None },
    Chain { name: FORWARD, kind: "filter", hook: Hook::Forward, priority: 0, drop: None },
    Chain { name: POSTROUTING, kind: "nat", hook: Hook::Postrouting, priority: 100, drop: None },
];

/// ESTABLISHED and RELATED in `ct state` (NF_CT_STATE_BIT).
const KNOWN: u32 = 0b110;
/// The destination was rewritten (IPS_DST_NAT).
const REWRITTEN: u32 = 1 << 5;
const IPV4: [u8; 1] = [2];
const TCP: [u8; 1] = [6];

const R0: Register = Register(0);
const R4: Register = Register(4);

/// What the filter knows of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilteredNetwork {
    pub(crate) link: String,
    pub(crate) subnets: Vec<Subnet>,
    pub(crate) internal: bool,
    pub(crate) masquerade: bool,
}

/// A rewriting of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forwarding {
    pub(crate) listen: SocketAddrV4,
    pub(crate) protocol: Protocol,
    pub(crate) target: SocketAddrV4,
}

/// This engine's table.
#[derive(Debug)]
pub(crate) struct Filter {
    table: String,
    socket: Socket,
    made: bool,
    egress: Option<u16>,
}

impl Filter {
    /// Opens netlink in the calling thread's namespace; the table is made with the first thing that needs it.
    pub(crate) fn open(table: String) -> io::Result<Filter> {
        Ok(Filter { table, socket: Socket::open(Family::Netfilter)?, made: false, egress: None })
    }

    /// Makes the table, or takes over the one of an earlier run with its elements.
    fn make(&mut self) -> Result<(), Error> {
        if self.made {
            return Ok(());
        }
        let result = self.build(false);
        // A table that another version of this program left may differ in its sets and chains: then anew.
        let result = result.or_else(|_| self.build(true));
        self.made = result.is_ok();
        result
    }

    fn build(&mut self, anew: bool) -> Result<(), Error> {
        let mut batch = Batch::new(&self.table);
        batch.add_table();
        if anew {
            batch.delete_table().add_table();
        }
        for (set, id) in SETS.iter().zip(1..) {
            batch.add_set(set, id);
        }
        for chain in &CHAINS {
            batch.add_chain(chain);
        }
        batch.flush_rules();
        add_rules(&mut batch, self.egress);
        batch.commit(&mut self.socket)
    }

    /// Lets a network's packets pass as they should.
    pub(crate) fn add_network(&mut self, network: &FilteredNetwork) -> Result<(), Error> {
        self.make()?;
        let mut batch = Batch::new(&self.table);
        for (set, elements) in network_elements(network) {
            batch.add_elements(set, &elements);
        }
        batch.commit(&mut self.socket)
    }

    /// Forgets a network.
    pub(crate) fn remove_network(&mut self, network: &FilteredNetwork) -> Result<(), Error> {
        let mut batch = Batch::new(&self.table);
        for (set, elements) in network_elements(network) {
            batch.delete_elements(set, &elements);
        }
        match batch.commit(&mut self.socket) {
            // The table or its elements were removed behind our back: what was wanted.
            Err(error) if error.errno() == libc::ENOENT => Ok(()),
            result => result,
        }
    }

    /// Leads a port to a container.
    pub(crate) fn add_port(&mut self, forwarding: &Forwarding) -> Result<(), Error> {
        self.make()?;
        let (map, element) = port_element(forwarding);
        let mut batch = Batch::new(&self.table);
        batch.add_elements(map, &[element]);
        batch.commit(&mut self.socket)
    }

    /// Undoes [`Filter::add_port`].
    pub(crate) fn remove_port(&mut self, forwarding: &Forwarding) -> Result<(), Error> {
        let (map, element) = port_element(forwarding);
        let mut batch = Batch::new(&self.table);
        batch.delete_elements(map, &[element]);
        batch.commit(&mut self.socket)?;
        if forwarding.protocol == Protocol::Udp {
            // A client that goes on sending would be led to the old container for as long as it does.
            conntrack::forget_udp(&mut self.socket, forwarding.target)?;
        }
        Ok(())
    }

    /// Sends outgoing TCP connections of containers to a port of this machine.
    pub(crate) fn redirect_egress(&mut self, port: u16) -> Result<(), Error> {
        self.egress = Some(port);
        if !self.made {
            return Ok(());
        }
        let mut batch = Batch::new(&self.table);
        batch.flush_rules();
        add_rules(&mut batch, self.egress);
        batch.commit(&mut self.socket)
    }

    /// Drops the networks other than these and the ports that lead to no address of `targets`.
    pub(crate) fn keep_only(
        &mut self,
        networks: &[FilteredNetwork],
        targets: &[Ipv4Addr],
    ) -> Result<(), Error> {
        self.make()?;
        let mut stale = Vec::new();
        for map in [PORTS, PORTS_ON] {
            let mut elements = dump_elements(&mut self.socket, &self.table, map)?;
            elements
                .retain(|element| !targets.iter().any(|target| element.data.starts_with(&target.octets())));
            stale.push((map, elements));
        }
        let mut batch = Batch::new(&self.table);
        for (map, elements) in &stale {
            batch.delete_elements(map, elements);
        }
        for set in [BRIDGES, INTERNAL, MASQUERADED, WITHIN, SUBNETS] {
            batch.flush_set(set);
        }
        for (set, elements) in networks.iter().flat_map(network_elements) {
            batch.add_elements(set, &elements);
        }
        batch.commit(&mut self.socket)
    }

    /// Removes the table.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        let mut batch = Batch::new(&self.table);
        // Adding first makes removal succeed also where there is none.
        batch.add_table().delete_table();
        self.made = false;
        batch.commit(&mut self.socket)
    }
}

fn add_rules(batch: &mut Batch<'_>, egress: Option<u16>) {
    batch.add_rule(RAW, |rule| {
        rule.meta(R0, Meta::InputName).is_in(BRIDGES, R0);
        ipv4(rule).destination_address(R0).mask(R0, &[255, 0, 0, 0]).equals(R0, &[127, 0, 0, 0]).drop();
    });
    for chain in [PREROUTING, OUTPUT] {
        batch.add_rule(chain, |rule| {
            ipv4(rule).destination_is_local(R0);
            rule.destination_address(R0).meta(Register(1), Meta::Protocol).destination_port(Register(2));
            rule.find_in(PORTS_ON, R0, R4).rewrite_destination(R4);
        });
        batch.add_rule(chain, |rule| {
            ipv4(rule).destination_is_local(R0);
            rule.meta(R0, Meta::Protocol).destination_port(Register(1));
            rule.find_in(PORTS, R0, R4).rewrite_destination(R4);
        });
    }
    if let Some(port) = egress {
        add_egress_rule(batch, port);
    }
    add_forward_rules(batch);
    add_source_rules(batch);
}

/// Packets between containers pass here too where bridged packets are filtered, and connections to this machine
/// are its own: only what leaves for elsewhere is redirected, and nothing of an internal network.
fn add_egress_rule(batch: &mut Batch<'_>, port: u16) {
    batch.add_rule(PREROUTING, |rule| {
        rule.meta(R0, Meta::InputName).is_in(BRIDGES, R0).is_not_in(INTERNAL, R0);
        ipv4(rule).meta(R0, Meta::Protocol).equals(R0, &TCP);
        rule.destination_address(R0).is_not_in(SUBNETS, R0);
        rule.destination_is_not_local(R0).redirect(port, R0);
    });
}

fn add_forward_rules(batch: &mut Batch<'_>) {
    let any_of = |rule: &mut Rule<'_>, key: Conntrack, bits: u32| {
        rule.conntrack(R0, key).mask(R0, &bits.to_ne_bytes()).differs(R0, &[0; 4]);
    };
    batch.add_rule(FORWARD, |rule| {
        any_of(rule, Conntrack::State, KNOWN);
        rule.accept();
    });
    batch.add_rule(FORWARD, |rule| {
        rule.meta(R0, Meta::InputName).meta(R4, Meta::OutputName).is_in(WITHIN, R0).accept();
    });
    for meta in [Meta::InputName, Meta::OutputName] {
        batch.add_rule(FORWARD, |rule| {
            rule.meta(R0, meta).is_in(INTERNAL, R0).drop();
        });
    }
    batch.add_rule(FORWARD, |rule| {
        any_of(rule, Conntrack::Status, REWRITTEN);
        rule.accept();
    });
    batch.add_rule(FORWARD, |rule| {
        rule.meta(R0, Meta::OutputName).is_in(BRIDGES, R0).drop();
    });
}

fn add_source_rules(batch: &mut Batch<'_>) {
    batch.add_rule(POSTROUTING, |rule| {
        rule.meta(R0, Meta::InputName).is_in(MASQUERADED, R0);
        rule.meta(R0, Meta::OutputName).is_not_in(BRIDGES, R0).masquerade();
    });
    // A container that comes back to its own network by a published port must be answered by way of this machine. It
    // is told by its address: where bridged packets are filtered, the input interface is not known here.
    batch.add_rule(POSTROUTING, |rule| {
        rule.meta(R0, Meta::OutputName).is_in(BRIDGES, R0);
        rule.conntrack(R0, Conntrack::Status).mask(R0, &REWRITTEN.to_ne_bytes()).differs(R0, &[0; 4]);
        ipv4(rule).source_address(R0).is_in(SUBNETS, R0).masquerade();
    });
    batch.add_rule(POSTROUTING, |rule| {
        rule.meta(R0, Meta::OutputName).is_in(BRIDGES, R0);
        ipv4(rule).source_address(R0).mask(R0, &[255, 0, 0, 0]).equals(R0, &[127, 0, 0, 0]).masquerade();
    });
}

fn ipv4<'r, 'a>(rule: &'r mut Rule<'a>) -> &'r mut Rule<'a> {
    rule.meta(R0, Meta::Family).equals(R0, &IPV4)
}

fn network_elements(network: &FilteredNetwork) -> Vec<(&'static str, Vec<Element>)> {
    let name = interface_key(&network.link);
    let key = |key: &[u8]| vec![Element { key: key.to_vec(), ..Element::default() }];
    let mut elements = vec![(BRIDGES, key(&name)), (WITHIN, key(&[name, name].concat()))];
    if network.internal {
        elements.push((INTERNAL, key(&name)));
    }
    if network.masquerade {
        elements.push((MASQUERADED, key(&name)));
    }
    for subnet in &network.subnets {
        if let (IpAddr::V4(first), IpAddr::V4(last)) = (subnet.first(), subnet.last()) {
            let after = Ipv4Addr::from_bits(last.to_bits().wrapping_add(1));
            let start = Element { key: first.octets().to_vec(), ..Element::default() };
            let end = Element { key: after.octets().to_vec(), ends: true, ..Element::default() };
            elements.push((SUBNETS, vec![start, end]));
        }
    }
    elements
}

/// An interface's name as set keys hold it: 16 bytes, filled up with zeros.
fn interface_key(name: &str) -> [u8; 16] {
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(name.bytes()).take(15) {
        *to = from;
    }
    key
}

fn port_element(forwarding: &Forwarding) -> (&'static str, Element) {
    let protocol = match forwarding.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    let everywhere = forwarding.listen.ip().is_unspecified();
    let mut key = if everywhere { Vec::new() } else { forwarding.listen.ip().octets().to_vec() };
    key.extend_from_slice(&[protocol, 0, 0, 0]);
    key.extend_from_slice(&port_key(forwarding.listen.port()));
    let mut data = forwarding.target.ip().octets().to_vec();
    data.extend_from_slice(&port_key(forwarding.target.port()));
    (if everywhere { PORTS } else { PORTS_ON }, Element { key, data, ends: false })
}

fn port_key(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// The IPv4 half of a pair of socket addresses, which is all that rewriting works on.
pub(crate) fn ipv4_pair(listen: SocketAddr, target: SocketAddr) -> Option<(SocketAddrV4, SocketAddrV4)> {
    match (listen, target) {
        (SocketAddr::V4(listen), SocketAddr::V4(target)) => Some((listen, target)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_on_all_addresses_and_on_one_go_to_different_maps() {
        let forwarding = |listen: &str| Forwarding {
            listen: listen.parse().unwrap(),
            protocol: Protocol::Tcp,
            target: "172.17.0.2:80".parse().unwrap(),
        };
        let (map, element) = port_element(&forwarding("0.0.0.0:8080"));
        assert_eq!((map, element.key), (PORTS, vec![6, 0, 0, 0, 0x1f, 0x90, 0, 0]));
        assert_eq!(element.data, [172, 17, 0, 2, 0, 80, 0, 0]);
        let (map, element) = port_element(&forwarding("127.0.0.1:8080"));
        assert_eq!((map, &element.key[..4]), (PORTS_ON, &[127, 0, 0, 1][..]));
    }
}
