//! What the engine asks for and what it gets back: plain data, with serde where the engine keeps it at rest.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::publish::Publishing;
use crate::subnet::Subnet;

/// How this engine's networks are set up.
#[derive(Clone)]
pub struct NetworkConfig {
    /// Names this engine's links and table, so that several engines live on one machine. Kept over restarts
    /// (derive it from the data root); only its hash is used, so any text will do.
    pub instance: String,
    /// Where subnets come from when a network names none; empty means Docker's default pools.
    pub pools: Vec<AddressPool>,
    /// Whether connections to the outside carry the machine's address (dockerd's `--ip-masq`).
    pub masquerade: bool,
    /// Whether to switch on IPv4 forwarding (dockerd's `--ip-forward`).
    pub ip_forward: bool,
    /// Whether bridges and the packet filter's table wait for the first container. For the VM, which answers
    /// before it has loaded the kernel modules for them.
    pub lazy: bool,
    /// Who opens published ports.
    pub publishing: Publishing,
}

/// A block of addresses to cut subnets from: `172.20.0.0/14` in pieces of 16 bits, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPool {
    /// The block.
    pub base: Subnet,
    /// The prefix length of each piece.
    pub size: u8,
}

/// A network to make.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// The network's id (64 hex digits).
    pub id: String,
    /// Its name, for messages.
    pub name: String,
    /// The bridge's name; `None`: `br-` and the id's first 12 digits, as dockerd names it.
    pub link: Option<String>,
    /// Subnets asked for; without an IPv4 one, a pool gives one.
    pub subnets: Vec<SubnetSpec>,
    /// Whether it has IPv6; without an IPv6 subnet, one of unique local addresses is made up.
    #[serde(default)]
    pub ipv6: bool,
    /// No way out and none in: only the members talk to each other.
    pub internal: bool,
    /// Whether members may talk to each other (`com.docker.network.bridge.enable_icc`); `None` means yes.
    pub members_talk: Option<bool>,
    /// Whether to masquerade; `None`: as the configuration says.
    pub masquerade: Option<bool>,
    /// Bytes per packet; `None`: the kernel's default.
    pub mtu: Option<u32>,
    /// Where ports are published that name no address (`com.docker.network.bridge.host_binding_ipv4`).
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
}

/// One subnet of a network, as the user wrote it (`--subnet --ip-range --gateway --aux-address`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    /// The subnet.
    pub subnet: Subnet,
    /// Addresses are given from this part only.
    pub range: Option<Subnet>,
    /// The bridge's address; `None`: the first.
    pub gateway: Option<IpAddr>,
    /// Addresses never given to a container.
    pub reserved: Vec<IpAddr>,
}

impl SubnetSpec {
    /// All of a subnet, with nothing said about it.
    pub fn of(subnet: Subnet) -> SubnetSpec {
        SubnetSpec { subnet, range: None, gateway: None, reserved: Vec::new() }
    }
}

/// A network that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// The network's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The bridge's name.
    pub link: String,
    /// Its subnets with their gateways, the IPv4 one first.
    pub subnets: Vec<SubnetRecord>,
    /// Whether it is cut off from the world.
    pub internal: bool,
    /// Bytes per packet, when asked for.
    pub mtu: Option<u32>,
    /// Where ports are published that name no address.
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
}

/// A subnet in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetRecord {
    /// The subnet.
    pub subnet: Subnet,
    /// The bridge's address.
    pub gateway: IpAddr,
}

/// One container's wish to be on one network.
#[derive(Debug, Default)]
pub struct AttachSpec {
    /// The container's id.
    pub container: String,
    /// The network's id.
    pub network: String,
    /// The address it insists on.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address it insists on.
    pub ipv6: Option<Ipv6Addr>,
    /// The hardware address it insists on; `None`: made from the IPv4 address, as dockerd does.
    pub mac: Option<MacAddress>,
    /// The interface's name inside; `None`: `eth0`.
    pub interface: Option<String>,
    /// Kernel parameters of the interface, which they call `IFNAME`: `net.ipv4.conf.IFNAME.log_martians`, `1`.
    pub parameters: Vec<(String, String)>,
    /// The names that members of the network find it by.
    pub names: Vec<String>,
    /// Names that it alone uses for other members: its own word and the member's name.
    pub links: Vec<(String, String)>,
    /// Whether this network gives the default route.
    pub default_route: bool,
    /// The namespace to attach; `None`: a fresh one.
    pub netns: Option<OwnedFd>,
}

/// Names one endpoint: 64 hex digits, Docker's `EndpointID`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointId(pub String);

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A container on a network.
#[derive(Debug)]
pub struct Endpoint {
    /// The namespace that was attached: for the runtime to join, and to be closed then.
    pub netns: OwnedFd,
    /// What the engine keeps.
    pub record: EndpointRecord,
}

/// What the engine keeps of an endpoint, and hands back to `recover` after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// Its key.
    pub id: EndpointId,
    /// The container's id.
    pub container: String,
    /// The network's id.
    pub network: String,
    /// The interface's name inside the container.
    pub interface: String,
    /// The other end's name, a port of the bridge.
    pub host_link: String,
    /// The IPv4 address.
    pub ipv4: Option<InterfaceAddress<Ipv4Addr>>,
    /// The IPv6 address.
    pub ipv6: Option<InterfaceAddress<Ipv6Addr>>,
    /// The network's gateway; none on an internal network.
    pub gateway: Option<Ipv4Addr>,
    /// The IPv6 gateway.
    pub gateway_v6: Option<Ipv6Addr>,
    /// The hardware address inside.
    pub mac: MacAddress,
    /// The names that members of the network find it by.
    #[serde(default)]
    pub names: Vec<String>,
    /// Names that it alone uses for other members: its own word and the member's name.
    #[serde(default)]
    pub links: Vec<(String, String)>,
}

impl EndpointRecord {
    /// Its addresses, the IPv4 one first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let ipv4 = self.ipv4.map(|ipv4| IpAddr::V4(ipv4.address));
        let ipv6 = self.ipv6.map(|ipv6| IpAddr::V6(ipv6.address));
        ipv4.into_iter().chain(ipv6)
    }

    /// Its gateways, the IPv4 one first.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.gateway.map(IpAddr::V4).into_iter().chain(self.gateway_v6.map(IpAddr::V6))
    }
}

/// An address with its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceAddress<A> {
    /// The address.
    pub address: A,
    /// The prefix length of its subnet.
    pub prefix: u8,
}

/// A port to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// The port inside the container.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The address to publish on; `None`: all, IPv4 and IPv6.
    pub host_ip: Option<IpAddr>,
    /// The first port that will do; 0: any.
    pub host_port: u16,
    /// The last port that will do, equal to `host_port` unless the user gave a range.
    pub host_port_end: u16,
}

/// A published port: one per address, as `NetworkSettings.Ports` lists them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// The port inside the container.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The address listened on.
    pub host_ip: IpAddr,
    /// The port listened on.
    pub host_port: u16,
}

/// A transport protocol whose ports can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// Sends the containers' outgoing TCP connections to a listener of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedirectSpec {
    /// The listener's port; it listens on all addresses and asks each connection for `SO_ORIGINAL_DST`.
    pub port: u16,
}

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The address that dockerd derives from an IPv4 address. It follows the address, so that a neighbour
    /// table that outlives a container is still right for the next one with its address.
    pub fn of(address: Ipv4Addr) -> MacAddress {
        let [a, b, c, d] = address.octets();
        MacAddress([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is no hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address: {0}")]
pub struct InvalidMacAddress(pub String);

impl FromStr for MacAddress {
    type Err = InvalidMacAddress;

    fn from_str(text: &str) -> std::result::Result<MacAddress, InvalidMacAddress> {
        let invalid = || InvalidMacAddress(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(invalid)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(MacAddress(octets)) }
    }
}

impl Serialize for MacAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<MacAddress, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_is_read_as_it_is_written() {
        let mac = MacAddress::of(Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02:42:ac:11:00:02".parse(), Ok(mac));
        for wrong in ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "2:42:ac:11:00:02", "02:42:ac:11:00:0g"] {
            assert!(wrong.parse::<MacAddress>().is_err(), "{wrong}");
        }
    }
}
