//! The sockets of a name server in a container's namespace.
//!
//! They listen on ports of the kernel's choice, and the namespace's packet filter leads port 53 of `127.0.0.11` to
//! them: a program in the container may so listen on port 53 of all addresses itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;

use sys::netlink::nft::{Batch, Chain, Hook, Meta, Register};
use sys::netlink::{Family, Socket, namespace};

/// Where containers find their name server.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;
const TABLE: &str = "sampan-dns";
const OUTPUT: Chain<'static> =
    Chain { name: "output", kind: "nat", hook: Hook::Output, priority: -100, drop: None };
const UDP: u8 = 17;
const TCP: u8 = 6;

/// The sockets, not yet served.
pub(super) struct Door {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

/// Opens the sockets and leads the container's questions to them, in the place of those of an earlier engine.
pub(super) fn open(netns: BorrowedFd<'_>) -> io::Result<Door> {
    namespace::within(netns, || {
        let door = Door { udp: UdpSocket::bind((ADDRESS, 0))?, tcp: TcpListener::bind((ADDRESS, 0))? };
        door.udp.set_nonblocking(true)?;
        door.tcp.set_nonblocking(true)?;
        lead(door.udp.local_addr()?, door.tcp.local_addr()?)?;
        Ok(door)
    })
}

fn lead(udp: SocketAddr, tcp: SocketAddr) -> io::Result<()> {
    const R0: Register = Register(0);
    const R4: Register = Register(4);
    let mut batch = Batch::new(TABLE);
    batch.add_table().delete_table().add_table().add_chain(&OUTPUT);
    for (protocol, to) in [(UDP, udp), (TCP, tcp)] {
        batch.add_rule(OUTPUT.name, |rule| {
            const IPV4: u8 = 2;
            rule.meta(R0, Meta::Family).equals(R0, &[IPV4]);
            rule.destination_address(R0).equals(R0, &ADDRESS.octets());
            rule.meta(R0, Meta::Protocol).equals(R0, &[protocol]);
            rule.destination_port(R0).equals(R0, &PORT.to_be_bytes());
            rule.load(R4, &ADDRESS.octets()).load(Register(5), &to.port().to_be_bytes());
            rule.rewrite_destination(R4);
        });
    }
    batch.commit(&mut Socket::open(Family::Netfilter)?)?;
    Ok(())
}
