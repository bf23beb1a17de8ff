//! Published ports on this machine.
//!
//! A bound socket holds the port, so that a busy one is refused and nobody else takes it. IPv4 traffic never
//! reaches that socket: the packet filter rewrites it to the container. What does reach it, connections to
//! `[::1]` above all, as addresses cannot be rewritten across families, is relayed by a task.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{self, AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};
use tokio::io::ReadBuf;
use tokio::task::JoinHandle;

use crate::filter::{Filter, Forwarding, ipv4_pair};
use crate::publish::{BoxFuture, PublishError, PublishSpec, PublishedPort, Publisher};
use crate::spec::Protocol;

/// Connections that may wait for the relay.
const BACKLOG: i32 = 1024;
/// How often a port number that is free on IPv4 and taken on IPv6 is tried anew.
const EPHEMERAL_ATTEMPTS: usize = 32;
/// A UDP conversation without a packet for so long is over, as in the kernel's own connection tracking.
const UDP_IDLE: Duration = Duration::from_secs(120);
/// Conversations at once through one relayed UDP port; the oldest must end before another begins.
const UDP_CONVERSATIONS: usize = 1024;
const LARGEST_DATAGRAM: usize = 65_536;

/// Opens ports on this machine.
pub(crate) struct Native {
    filter: Arc<Mutex<Filter>>,
}

impl Native {
    pub(crate) fn new(filter: Arc<Mutex<Filter>>) -> Native {
        Native { filter }
    }

    fn open(&self, spec: &PublishSpec) -> Result<Box<dyn PublishedPort>, PublishError> {
        let held = hold(spec)?;
        let mut port = Open {
            filter: self.filter.clone(),
            addresses: Vec::new(),
            forwardings: Vec::new(),
            relays: Vec::new(),
        };
        for (address, socket) in held {
            port.addresses.push(address);
            if let Some((listen, target)) = ipv4_pair(address, spec.target) {
                let forwarding = Forwarding { listen, protocol: spec.protocol, target };
                let mut filter = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
                filter.add_port(&forwarding).map_err(|error| PublishError::Forward {
                    address,
                    target: spec.target,
                    source: error.into(),
                })?;
                port.forwardings.push(forwarding);
            }
            port.relays.push(relay(socket, spec).map_err(|source| bind_error(spec, address, source))?);
        }
        Ok(Box::new(port))
    }
}

impl Publisher for Native {
    fn publish<'a>(
        &'a self,
        spec: &'a PublishSpec,
    ) -> BoxFuture<'a, Result<Box<dyn PublishedPort>, PublishError>> {
        // Nothing here waits: binding and the filter's transaction take microseconds.
        Box::pin(async move { self.open(spec) })
    }
}

struct Open {
    filter: Arc<Mutex<Filter>>,
    addresses: Vec<SocketAddr>,
    forwardings: Vec<Forwarding>,
    relays: Vec<Relay>,
}

/// A task and the socket that it relays from.
struct Relay {
    task: JoinHandle<()>,
    socket: Box<dyn Close>,
}

/// A socket that the port owns and its task borrows for each poll: closing the port frees its number at once, not
/// when the task is next run.
struct Held<S>(Arc<Mutex<Option<S>>>);

trait Close: Send + Sync {
    fn close(&self);
}

impl<S: Send + AsFd> Close for Held<S> {
    fn close(&self) {
        if let Some(socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A program that this process is just starting holds a copy until its exec: closing alone would leave the
            // port listening for that moment. A datagram socket refuses, and has no such state.
            let _ = net::shutdown(&socket, Shutdown::Both);
        }
    }
}

impl<S> Clone for Held<S> {
    fn clone(&self) -> Held<S> {
        Held(self.0.clone())
    }
}

impl<S> Held<S> {
    fn new(socket: S) -> Held<S> {
        Held(Arc::new(Mutex::new(Some(socket))))
    }

    /// Uses the socket; `None` when the port is closed.
    fn with<T>(&self, work: impl FnOnce(&S) -> T) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(work)
    }

    /// Waits for something from the socket; `None` when the port is closed.
    async fn wait<T>(&self, mut poll: impl FnMut(&S, &mut Context<'_>) -> Poll<T>) -> Option<T> {
        poll_fn(|context| match self.with(|socket| poll(socket, context)) {
            Some(Poll::Ready(value)) => Poll::Ready(Some(value)),
            Some(Poll::Pending) => Poll::Pending,
            None => Poll::Ready(None),
        })
        .await
    }
}

impl PublishedPort for Open {
    fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // The rewriting ends before the port is free for others.
        for forwarding in &self.forwardings {
            let mut filter = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = filter.remove_port(forwarding) {
                tracing::warn!(listen = %forwarding.listen, %error, "cannot remove a published port's forwarding");
            }
        }
        for relay in &self.relays {
            relay.socket.close();
            relay.task.abort();
        }
    }
}

/// Binds every address of the request under one port number.
fn hold(spec: &PublishSpec) -> Result<Vec<(SocketAddr, OwnedFd)>, PublishError> {
    let ips = match spec.host_ip {
        Some(ip) => vec![ip],
        None => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
    };
    let mut attempts = if spec.host_port == 0 { EPHEMERAL_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match hold_once(spec, &ips) {
            Err(PublishError::Bind { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            result => return result,
        }
    }
}

fn hold_once(spec: &PublishSpec, ips: &[IpAddr]) -> Result<Vec<(SocketAddr, OwnedFd)>, PublishError> {
    let mut held: Vec<(SocketAddr, OwnedFd)> = Vec::new();
    for ip in ips {
        let port = held.first().map_or(spec.host_port, |(address, _)| address.port());
        let wanted = SocketAddr::new(*ip, port);
        match bind(wanted, spec.protocol) {
            Ok(bound) => held.push(bound),
            // A machine without IPv6 publishes on IPv4 alone when the address was not asked for.
            Err(error) if ip.is_ipv6() && spec.host_ip.is_none() && lacks_family(&error) => {}
            Err(error) => return Err(bind_error(spec, wanted, error)),
        }
    }
    Ok(held)
}

fn bind(address: SocketAddr, protocol: Protocol) -> io::Result<(SocketAddr, OwnedFd)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if protocol == Protocol::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of the port's last owner that linger in TIME_WAIT must not refuse it.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    if protocol == Protocol::Tcp {
        net::listen(&socket, BACKLOG)?;
    }
    let bound = SocketAddr::try_from(net::getsockname(&socket)?).map_err(io::Error::from)?;
    Ok((bound, socket))
}

fn lacks_family(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(libc::EAFNOSUPPORT) || code == Some(libc::EADDRNOTAVAIL)
}

fn bind_error(spec: &PublishSpec, address: SocketAddr, source: io::Error) -> PublishError {
    PublishError::Bind { address, target: spec.target, protocol: spec.protocol, source }
}

/// Starts relaying what reaches the held socket.
fn relay(socket: OwnedFd, spec: &PublishSpec) -> io::Result<Relay> {
    let target = spec.target;
    Ok(match spec.protocol {
        Protocol::Tcp => {
            let held = Held::new(tokio::net::TcpListener::from_std(TcpListener::from(socket))?);
            Relay { task: tokio::spawn(relay_connections(held.clone(), target)), socket: Box::new(held) }
        }
        Protocol::Udp => {
            let held = Held::new(tokio::net::UdpSocket::from_std(UdpSocket::from(socket))?);
            Relay { task: tokio::spawn(relay_datagrams(held.clone(), target)), socket: Box::new(held) }
        }
    })
}

async fn relay_connections(listener: Held<tokio::net::TcpListener>, target: SocketAddr) {
    // Connections end with the port: dropping the set aborts them.
    let mut connections = tokio::task::JoinSet::new();
    while let Some(accepted) = listener.wait(tokio::net::TcpListener::poll_accept).await {
        while connections.try_join_next().is_some() {}
        let mut client = match accepted {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::debug!(%error, "cannot accept on a published port");
                // Out of descriptors, mostly: accepting at once again would spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        connections.spawn(async move {
            // A refused connection closes the client's: it sees a reset or the end, as through any relay.
            if let Ok(mut container) = tokio::net::TcpStream::connect(target).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut container).await;
            }
        });
    }
}

/// The conversations of one relayed UDP port; they end with it.
#[derive(Default)]
struct Conversations(HashMap<SocketAddr, (Arc<tokio::net::UdpSocket>, JoinHandle<()>)>);

impl Conversations {
    /// The socket towards the container that stands for `client`; `None` when there are too many.
    async fn of(
        &mut self,
        client: SocketAddr,
        socket: &Held<tokio::net::UdpSocket>,
        target: SocketAddr,
    ) -> Option<Arc<tokio::net::UdpSocket>> {
        if let Some((container, task)) = self.0.get(&client)
            && !task.is_finished()
        {
            return Some(container.clone());
        }
        self.0.retain(|_, (_, task)| !task.is_finished());
        if self.0.len() >= UDP_CONVERSATIONS {
            return None;
        }
        let any =
            if target.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let container = Arc::new(tokio::net::UdpSocket::bind((any, 0)).await.ok()?);
        container.connect(target).await.ok()?;
        let task = tokio::spawn(relay_answers(socket.clone(), container.clone(), client));
        self.0.insert(client, (container.clone(), task));
        Some(container)
    }
}

impl Drop for Conversations {
    fn drop(&mut self) {
        for (_, task) in self.0.values() {
            task.abort();
        }
    }
}

async fn relay_datagrams(socket: Held<tokio::net::UdpSocket>, target: SocketAddr) {
    let mut conversations = Conversations::default();
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    loop {
        let mut space = ReadBuf::new(&mut buffer);
        let received = socket.wait(|socket, context| socket.poll_recv_from(context, &mut space)).await;
        match received {
            None => return,
            // An ICMP answer to something sent earlier; the port stays open.
            Some(Err(_)) => {}
            Some(Ok(client)) => {
                if let Some(container) = conversations.of(client, &socket, target).await {
                    let _ = container.send(space.filled()).await;
                }
            }
        }
    }
}

async fn relay_answers(
    socket: Held<tokio::net::UdpSocket>,
    container: Arc<tokio::net::UdpSocket>,
    client: SocketAddr,
) {
    let mut buffer = vec![0; LARGEST_DATAGRAM];
    while let Ok(Ok(length)) = tokio::time::timeout(UDP_IDLE, container.recv(&mut buffer)).await {
        // A full send buffer drops the datagram, as any hop may.
        if socket.with(|socket| socket.try_send_to(&buffer[..length], client)).is_none() {
            return;
        }
    }
}
