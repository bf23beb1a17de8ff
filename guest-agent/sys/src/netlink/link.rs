//! rtnetlink: links, addresses, routes. Functions add messages to a request, so that several travel in one
//! system call; `dump_*` read what exists.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::message::{Message, Request, u32_at};
use super::socket::{Error, Socket};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_FLUSH: u16 = 24;
/// IFLA_BRPORT_LEARNING, UNICAST_FLOOD, MCAST_FLOOD, BCAST_FLOOD.
const FLOODING_AND_LEARNING: [u16; 4] = [8, 9, 27, 30];
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// No link-local address is made (IN6_ADDR_GEN_MODE_NONE).
const ADDR_GEN_NONE: u8 = 1;

/// The fixed part of link messages: family, type, index, flags, change mask (struct ifinfomsg).
const LINK_HEADER: usize = 16;
/// struct ifaddrmsg.
const ADDRESS_HEADER: usize = 8;
/// struct rtmsg.
const ROUTE_HEADER: usize = 12;

/// `IPV4_DEVCONF_ROUTE_LOCALNET`: packets for 127.0.0.0/8 may be routed over this link.
pub const ROUTE_LOCALNET: u16 = 26;

/// A veth pair to make: one end here, up and under a bridge; the other in a namespace.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// The name of the end here.
    pub name: &'a str,
    /// The bridge's index.
    pub master: u32,
    /// The name of the end there.
    pub peer: &'a str,
    /// The hardware address of the end there.
    pub peer_mac: [u8; 6],
    /// Where the other end goes.
    pub namespace: BorrowedFd<'a>,
    /// Bytes per packet of both ends; `None`: the kernel's default.
    pub mtu: Option<u32>,
    /// Whether the port is cut off from the bridge's other isolated ports.
    pub isolated: bool,
}

/// What a link dump tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The index.
    pub index: u32,
    /// The name.
    pub name: String,
    /// The kind (`bridge`, `veth`); `None` for hardware and loopback.
    pub kind: Option<String>,
    /// The bridge it is a port of.
    pub master: Option<u32>,
    /// Bytes per packet.
    pub mtu: u32,
    /// The free text that its maker gave it.
    pub alias: Option<String>,
}

/// Whether the kernel takes `name` for a link.
pub fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < libc::IFNAMSIZ
        && name != "."
        && name != ".."
        && !name.bytes().any(|byte| byte == b'/' || byte == b':' || byte == 0 || byte.is_ascii_whitespace())
}

/// The link called `name` in the socket's namespace.
pub fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>, Error> {
    let mut request = Request::new();
    request.message(RTM_GETLINK, 0, &header(0, 0), |body| body.text(IFLA_IFNAME, name));
    let mut found = None;
    match socket.get(request, |message| found = read_link(&message)) {
        Err(error) if error.errno() == libc::ENODEV => Ok(None),
        result => result.map(|()| found),
    }
}

/// Makes a bridge, down and without addresses.
pub fn add_bridge(request: &mut Request, name: &str, mac: [u8; 6], mtu: Option<u32>) {
    request.message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header(0, 0), |body| {
        body.text(IFLA_IFNAME, name);
        body.bytes(IFLA_ADDRESS, &mac);
        if let Some(mtu) = mtu {
            body.u32(IFLA_MTU, mtu);
        }
        body.nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "bridge"));
    });
}

/// Makes a veth pair and gives the port its hairpin flag, so that a container reaches itself by a published port
/// also where bridged packets pass the packet filter.
pub fn add_veth(request: &mut Request, veth: &Veth<'_>) {
    let up = header(0, libc::IFF_UP as u32);
    request.message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &up, |body| {
        body.text(IFLA_IFNAME, veth.name);
        body.u32(IFLA_MASTER, veth.master);
        if let Some(mtu) = veth.mtu {
            body.u32(IFLA_MTU, mtu);
        }
        body.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| data.nest(VETH_INFO_PEER, |peer| veth_peer(peer, veth)));
        });
    });
    request.message(RTM_NEWLINK, 0, &header(0, 0), |body| {
        body.text(IFLA_IFNAME, veth.name);
        body.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_SLAVE_KIND, "bridge");
            info.nest(IFLA_INFO_SLAVE_DATA, |port| {
                port.u8(IFLA_BRPORT_MODE, 1);
                port.u8(IFLA_BRPORT_ISOLATED, u8::from(veth.isolated));
            });
        });
    });
}

fn veth_peer(peer: &mut Request, veth: &Veth<'_>) {
    peer.raw(&header(0, 0));
    peer.text(IFLA_IFNAME, veth.peer);
    peer.bytes(IFLA_ADDRESS, &veth.peer_mac);
    peer.u32(IFLA_NET_NS_FD, veth.namespace.as_raw_fd() as u32);
    if let Some(mtu) = veth.mtu {
        peer.u32(IFLA_MTU, mtu);
    }
}

/// Removes the link of this name (with its peer).
pub fn delete(request: &mut Request, name: &str) {
    request.message(RTM_DELLINK, 0, &header(0, 0), |body| body.text(IFLA_IFNAME, name));
}

/// Makes a bridge's port deaf and mute and forgets what was learned behind it. Unlike removing the link, which
/// waits for every processor, this takes microseconds.
pub fn silence_port(request: &mut Request, name: &str) {
    const DISABLED: u8 = 0;
    request.message(RTM_NEWLINK, 0, &header(0, 0), |body| {
        body.text(IFLA_IFNAME, name);
        body.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_SLAVE_KIND, "bridge");
            info.nest(IFLA_INFO_SLAVE_DATA, |port| {
                port.u8(IFLA_BRPORT_STATE, DISABLED);
                // A carrier event that is under way may enable the port again. These stay: nothing is learned
                // behind it and nothing of unknown whereabouts is sent there, so nothing reaches it.
                for flag in FLOODING_AND_LEARNING {
                    port.u8(flag, 0);
                }
                port.bytes(IFLA_BRPORT_FLUSH, &[]);
            });
        });
    });
}

/// Puts the link of this name into a group.
pub fn set_group(request: &mut Request, name: &str, group: u32) {
    request.message(RTM_NEWLINK, 0, &header(0, 0), |body| {
        body.text(IFLA_IFNAME, name);
        body.u32(IFLA_GROUP, group);
    });
}

/// Removes every link of a group, in little more than the time of one.
pub fn delete_group(request: &mut Request, group: u32) {
    request.message(RTM_DELLINK, 0, &header(0, 0), |body| body.u32(IFLA_GROUP, group));
}

/// Gives a link a free text that tells who made it.
pub fn set_alias(request: &mut Request, index: u32, alias: &str) {
    request.message(RTM_SETLINK, 0, &header(index, 0), |body| body.bytes(IFLA_IFALIAS, alias.as_bytes()));
}

/// Switches a link on.
pub fn set_up(request: &mut Request, index: u32) {
    request.message(RTM_SETLINK, 0, &header(index, libc::IFF_UP as u32), |_| {});
}

/// Sets one of a link's IPv4 settings (`IPV4_DEVCONF_…`), as its file under `/proc/sys/net/ipv4/conf` would,
/// but in the socket's namespace.
pub fn set_ipv4_setting(request: &mut Request, index: u32, setting: u16, value: u32) {
    request.message(RTM_SETLINK, 0, &header(index, 0), |body| {
        body.nest(IFLA_AF_SPEC, |families| {
            families.nest(libc::AF_INET as u16, |inet| {
                inet.nest(IFLA_INET_CONF, |settings| settings.u32(setting, value));
            });
        });
    });
}

/// Keeps a link from making itself an IPv6 link-local address.
pub fn no_link_local(request: &mut Request, index: u32) {
    request.message(RTM_SETLINK, 0, &header(index, 0), |body| {
        body.nest(IFLA_AF_SPEC, |families| {
            families.nest(libc::AF_INET6 as u16, |inet| inet.u8(IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_NONE));
        });
    });
}

/// Gives a link an address, replacing nothing.
pub fn add_address(
    request: &mut Request,
    index: u32,
    address: IpAddr,
    prefix: u8,
    broadcast: Option<IpAddr>,
) {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_BROADCAST: u16 = 4;
    /// An IPv6 address of ours is ours alone: no duplicate detection, usable at once.
    const IFA_F_NODAD: u8 = 2;
    let mut fixed = [0; ADDRESS_HEADER];
    fixed[0] = family(address);
    fixed[1] = prefix;
    fixed[2] = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    request.message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &fixed, |body| {
        body.bytes(IFA_LOCAL, &octets(address));
        body.bytes(IFA_ADDRESS, &octets(address));
        if let Some(broadcast) = broadcast {
            body.bytes(IFA_BROADCAST, &octets(broadcast));
        }
    });
}

/// Makes `gateway` the default route, in the place of another one.
pub fn set_default_route(request: &mut Request, gateway: IpAddr) {
    const RTA_GATEWAY: u16 = 5;
    let fixed = default_route(family(gateway));
    request.message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &fixed, |body| {
        body.bytes(RTA_GATEWAY, &octets(gateway));
    });
}

/// Removes the default route of a family (`AF_INET`, `AF_INET6`).
pub fn delete_default_route(request: &mut Request, family: u8) {
    request.message(RTM_DELROUTE, 0, &default_route(family), |_| {});
}

/// struct rtmsg of a default route.
fn default_route(family: u8) -> [u8; ROUTE_HEADER] {
    let mut fixed = [0; ROUTE_HEADER];
    fixed[0] = family;
    fixed[4] = libc::RT_TABLE_MAIN;
    fixed[5] = libc::RTPROT_BOOT;
    fixed[6] = libc::RT_SCOPE_UNIVERSE;
    fixed[7] = libc::RTN_UNICAST;
    fixed
}

/// Every link of the socket's namespace.
pub fn dump(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    let mut request = Request::new();
    request.message(RTM_GETLINK, 0, &header(0, 0), |_| {});
    let mut links = Vec::new();
    socket.dump(request, |message| links.extend(read_link(&message)))?;
    Ok(links)
}

fn read_link(message: &Message<'_>) -> Option<Link> {
    if message.kind != RTM_NEWLINK {
        return None;
    }
    let attributes = message.attributes(LINK_HEADER);
    Some(Link {
        index: u32_at(message.payload, 4)?,
        name: attributes.text(IFLA_IFNAME)?.to_owned(),
        kind: attributes.nested(IFLA_LINKINFO).text(IFLA_INFO_KIND).map(str::to_owned),
        master: attributes.u32(IFLA_MASTER),
        mtu: attributes.u32(IFLA_MTU).unwrap_or(0),
        alias: attributes.text(IFLA_IFALIAS).map(str::to_owned),
    })
}

/// Every address: the link's index, the address and its prefix length.
pub fn dump_addresses(socket: &mut Socket) -> Result<Vec<(u32, IpAddr, u8)>, Error> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    let mut request = Request::new();
    request.message(RTM_GETADDR, 0, &[0; ADDRESS_HEADER], |_| {});
    let mut addresses = Vec::new();
    socket.dump(request, |message| {
        let attributes = message.attributes(ADDRESS_HEADER);
        let value = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS));
        if message.kind == RTM_NEWADDR
            && let Some(address) = value.and_then(read_address)
            && let Some(index) = u32_at(message.payload, 4)
        {
            addresses.push((index, address, message.payload[1]));
        }
    })?;
    Ok(addresses)
}

/// Every unicast route but default routes: the link's index, the destination and its prefix length.
pub fn dump_routes(socket: &mut Socket) -> Result<Vec<(u32, IpAddr, u8)>, Error> {
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    let mut request = Request::new();
    request.message(RTM_GETROUTE, 0, &[0; ROUTE_HEADER], |_| {});
    let mut routes = Vec::new();
    socket.dump(request, |message| {
        let attributes = message.attributes(ROUTE_HEADER);
        if message.kind == RTM_NEWROUTE
            && message.payload.get(7) == Some(&libc::RTN_UNICAST)
            && let Some(destination) = attributes.find(RTA_DST).and_then(read_address)
        {
            routes.push((attributes.u32(RTA_OIF).unwrap_or(0), destination, message.payload[1]));
        }
    })?;
    Ok(routes)
}

/// struct ifinfomsg for link `index` (0: named by attribute), setting `flags`.
fn header(index: u32, flags: u32) -> [u8; LINK_HEADER] {
    let mut fixed = [0; LINK_HEADER];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&flags.to_ne_bytes());
    fixed
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn read_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(octets.into());
    }
    Some(<[u8; 16]>::try_from(bytes).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_refuses_are_known() {
        for good in ["docker0", "br-0123456789ab", "a"] {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "0123456789abcdef"] {
            assert!(!is_valid_name(bad), "{bad}");
        }
    }

    #[test]
    fn an_address_is_read_only_at_its_right_length() {
        assert_eq!(read_address(&[10, 0, 0, 1]), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(read_address(&[10, 0, 0]), None);
        assert_eq!(read_address(&[0; 17]), None);
    }
}
