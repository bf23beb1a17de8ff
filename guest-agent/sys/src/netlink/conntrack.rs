//! ctnetlink: connections that the kernel tracks, and forgetting some of them.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::message::{Attributes, Request};
use super::socket::{Error, Socket};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const NESTED: u16 = 0x8000;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IPV4_SOURCE: u16 = 1;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_SOURCE_PORT: u16 = 2;
const UDP: u8 = 17;
/// struct nfgenmsg of IPv4.
const HEADER: [u8; 4] = [libc::AF_INET as u8, 0, 0, 0];

/// Forgets the UDP conversations that `server` answers in, so that the next datagram of each is led anew. `socket` is
/// one of the packet filter's family.
pub fn forget_udp(socket: &mut Socket, server: SocketAddrV4) -> Result<(), Error> {
    let mut request = Request::new();
    request.message(GET, 0, &HEADER, |_| {});
    let mut stale: Vec<Vec<u8>> = Vec::new();
    socket.dump(request, |message| {
        let attributes = message.attributes(HEADER.len());
        if source(&attributes.nested(TUPLE_REPLY)) == Some((UDP, server))
            && let Some(tuple) = attributes.find(TUPLE_ORIGINAL)
        {
            stale.push(tuple.to_vec());
        }
    })?;
    for tuple in stale {
        let mut request = Request::new();
        request.message(DELETE, 0, &HEADER, |body| body.bytes(NESTED | TUPLE_ORIGINAL, &tuple));
        match socket.request(request) {
            // It ended by itself meanwhile.
            Err(error) if error.errno() == libc::ENOENT => {}
            result => result?,
        }
    }
    Ok(())
}

/// The protocol and where the packets of a direction come from.
fn source(tuple: &Attributes<'_>) -> Option<(u8, SocketAddrV4)> {
    let address = tuple.nested(TUPLE_IP).find(IPV4_SOURCE)?;
    let address: [u8; 4] = address.try_into().ok()?;
    let protocol = tuple.nested(TUPLE_PROTOCOL);
    let number = *protocol.find(PROTOCOL_NUMBER)?.first()?;
    let port: [u8; 2] = protocol.find(PROTOCOL_SOURCE_PORT)?.try_into().ok()?;
    Some((number, SocketAddrV4::new(Ipv4Addr::from(address), u16::from_be_bytes(port))))
}
