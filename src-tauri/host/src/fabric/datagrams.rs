//! Published UDP ports: one socket per address, and a fabric connection for each client that talks to it.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use protocol::{DialRequest, Dialed, FramedStream, Transport, recv_datagram, send_datagram};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::hypervisor::Vm;

/// A conversation without a datagram for so long is over, as in the kernel's connection tracking.
const IDLE: Duration = Duration::from_secs(120);
/// Conversations at once through one port; clients beyond wait for one to end.
const CONVERSATIONS: usize = 1024;
/// Datagrams of one client that wait; more are lost, as on any way.
const WAITING: usize = 64;
const LARGEST: usize = 65_536;

/// Binds an address, not yet served.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket(family, SocketType::DGRAM, None)?;
    if address.is_ipv6() {
        // The IPv4 half is a socket of its own, whose clients keep their addresses unmapped.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    let socket = StdSocket::from(socket);
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Carries clients' datagrams until dropped; conversations end with it.
pub(super) async fn serve(socket: UdpSocket, target: SocketAddr, vm: Weak<dyn Vm>) {
    let socket = Arc::new(socket);
    let mut clients: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut conversations = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        // An error is an ICMP answer to something sent earlier; the port stays open.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        while conversations.try_join_next().is_some() {}
        let mut datagram = buffer[..length].to_vec();
        if let Some(open) = clients.get(&client) {
            match open.try_send(datagram) {
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => continue,
                Err(mpsc::error::TrySendError::Closed(unsent)) => datagram = unsent,
            }
        }
        clients.retain(|_, open| !open.is_closed());
        let Some(vm) = vm.upgrade().filter(|_| clients.len() < CONVERSATIONS) else { continue };
        let (sender, datagrams) = mpsc::channel(WAITING);
        // The queue is empty: there is room.
        let _ = sender.try_send(datagram);
        clients.insert(client, sender);
        let socket = Arc::clone(&socket);
        conversations.spawn(async move {
            if let Err(error) = converse(vm, target, client, &socket, datagrams).await {
                tracing::debug!(%target, %client, %error, "a conversation through a published port has ended");
            }
        });
    }
}

async fn converse(
    vm: Arc<dyn Vm>,
    target: SocketAddr,
    client: SocketAddr,
    socket: &UdpSocket,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut guest = FramedStream::new(vm.connect(protocol::ports::PUBLISHED).await?);
    drop(vm);
    guest.send(&DialRequest { target, protocol: Transport::Udp }).await?;
    if let Dialed::Failed { kind, message } = guest.recv().await? {
        return Err(io::Error::new(kind.into(), message));
    }
    let (mut from_guest, mut to_guest) = tokio::io::split(guest);
    let answered = Mutex::new(Instant::now());
    let last_answer = || *answered.lock().unwrap_or_else(PoisonError::into_inner);
    let inward = async {
        loop {
            match timeout(IDLE, datagrams.recv()).await {
                Ok(Some(datagram)) => send_datagram(&mut to_guest, &datagram).await?,
                Ok(None) => return io::Result::Ok(()),
                Err(_) if last_answer().elapsed() < IDLE => {}
                Err(_) => return Ok(()),
            }
        }
    };
    let outward = async {
        loop {
            let datagram = recv_datagram(&mut from_guest).await?;
            *answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            // A client that is gone, or a full buffer: the datagram is lost, as on any way.
            let _ = socket.send_to(&datagram, client).await;
        }
    };
    tokio::select! {
        ended = inward => ended,
        ended = outward => ended,
    }
}
