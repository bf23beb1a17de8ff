//! Network namespaces of containers: making one, and configuring the interface inside.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use sys::netlink::{Error, Family, Request, Socket, link, namespace};

use crate::spec::InterfaceAddress;

/// Settings that dockerd gives every namespace of its own: any user may listen on low ports and send pings, and
/// no interface but loopback has IPv6 unless its network has.
const SETTINGS: [(&str, &str); 3] = [
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
];

/// Loopback is the first link of every namespace.
const LOOPBACK: u32 = 1;

/// A namespace with loopback up, and a netlink socket in it.
type Sandbox = (OwnedFd, Socket);

/// Makes namespaces ahead of need: one waits and one is in the making, so that a container's start does not wait for
/// the kernel to set one up. The thread ends when this is dropped.
pub(crate) struct Maker(Receiver<io::Result<Sandbox>>);

impl Maker {
    pub(crate) fn start() -> io::Result<Maker> {
        let home = namespace::current()?;
        let (send, receive) = sync_channel(1);
        let thread = thread::Builder::new().name("sandbox-maker".to_owned()).stack_size(128 * 1024);
        thread.spawn(move || {
            // A failure waits for its taker as a namespace does, so a lasting one does not spin.
            while send.send(make(&home)).is_ok() {}
        })?;
        Ok(Maker(receive))
    }

    /// Takes the one that waits.
    pub(crate) fn take(&self) -> io::Result<Sandbox> {
        self.0.recv().unwrap_or_else(|_| Err(io::Error::other("the sandbox maker ended")))
    }
}

/// Makes a namespace on the calling thread, which is in `home` again afterwards, so that it holds none alive.
fn make(home: &OwnedFd) -> io::Result<Sandbox> {
    namespace::leave_for_a_fresh_one()?;
    let made = namespace::current().and_then(|netns| Ok((netns, set_up()?)));
    namespace::enter(home.as_fd())?;
    made
}

fn set_up() -> io::Result<Socket> {
    let mut socket = Socket::open(Family::Route)?;
    let mut request = Request::new();
    link::set_up(&mut request, LOOPBACK);
    socket.request(request)?;
    for (file, value) in SETTINGS {
        match fs::write(file, value) {
            // A kernel without IPv6 has no such file.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(socket)
}

/// A netlink socket in a namespace that exists.
pub(crate) fn open(netns: BorrowedFd<'_>) -> io::Result<Socket> {
    namespace::within(netns, || Socket::open(Family::Route))
}

/// Lets the interface called `name` have IPv6 addresses.
pub(crate) fn enable_ipv6(netns: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    namespace::within(netns, || fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0"))
}

/// What an interface inside gets.
pub(crate) struct Interface<'a> {
    pub(crate) name: &'a str,
    pub(crate) ipv4: Option<InterfaceAddress<Ipv4Addr>>,
    pub(crate) ipv6: Option<InterfaceAddress<Ipv6Addr>>,
    pub(crate) gateways: Vec<IpAddr>,
}

/// Gives the interface its addresses, switches it on and sets the default routes.
pub(crate) fn configure(socket: &mut Socket, interface: &Interface<'_>) -> Result<(), Error> {
    let found = link::find(socket, interface.name)?;
    let index = found.map(|link| link.index).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    let mut request = Request::new();
    if let Some(InterfaceAddress { address, prefix }) = interface.ipv4 {
        let broadcast = crate::subnet::Subnet::new(address.into(), prefix).map(|subnet| subnet.last());
        link::add_address(&mut request, index, address.into(), prefix, broadcast);
    }
    if let Some(InterfaceAddress { address, prefix }) = interface.ipv6 {
        link::add_address(&mut request, index, address.into(), prefix, None);
    }
    link::set_up(&mut request, index);
    for gateway in &interface.gateways {
        link::set_default_route(&mut request, *gateway);
    }
    socket.request(request)
}

/// Makes these the default routes; a family without one has none afterwards.
pub(crate) fn route(socket: &mut Socket, gateways: &[IpAddr]) -> Result<(), Error> {
    for (family, is_of) in
        [(libc::AF_INET, IpAddr::is_ipv4 as fn(&IpAddr) -> bool), (libc::AF_INET6, IpAddr::is_ipv6)]
    {
        let mut request = Request::new();
        match gateways.iter().find(|gateway| is_of(gateway)) {
            Some(gateway) => link::set_default_route(&mut request, *gateway),
            None => link::delete_default_route(&mut request, family as u8),
        }
        match socket.request(request) {
            // There was none; or the kernel has no such family at all.
            Err(error) if matches!(error.errno(), libc::ESRCH | libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Writes kernel parameters of the interface called `name`; in `net.ipv4.conf.IFNAME.…` it is called `IFNAME`.
pub(crate) fn set_parameters(
    netns: BorrowedFd<'_>,
    name: &str,
    parameters: &[(String, String)],
) -> io::Result<()> {
    namespace::within(netns, || {
        for (parameter, value) in parameters {
            let path = parameter.replace('.', "/").replace("IFNAME", name);
            fs::write(format!("/proc/sys/{path}"), value)?;
        }
        Ok(())
    })
}
