//! Published ports: a listening socket on the host for each, as long as the guest holds its lease.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Weak;
use std::time::Duration;

use protocol::{DialRequest, Dialed, FramedStream, PublishReply, PublishRequest, Transport};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{datagrams, relay_tcp};
use crate::hypervisor::{Stream, Vm};

/// The guest must say what it wants, and answer what it is asked, within this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Clients that wait to be accepted, per port; what dockerd's proxy gets from the kernel's default.
const BACKLOG: u32 = 4096;

/// Tries to find a port that is free in both families, when any will do.
const ANY_PORT_TRIES: usize = 20;

/// Serves one lease.
pub(crate) async fn serve<S: Stream>(mut guest: FramedStream<S>, vm: Weak<dyn Vm>) {
    let Ok(Ok(request)) = timeout(ANSWER_WITHIN, guest.recv::<PublishRequest>()).await else { return };
    let listeners = match bind(&request) {
        Ok(listeners) => listeners,
        Err(message) => {
            let _ = guest.send(&PublishReply::Refused { message }).await;
            return;
        }
    };
    let addresses = listeners.iter().filter_map(|listener| listener.address().ok()).collect();
    if guest.send(&PublishReply::Published { addresses }).await.is_err() {
        return;
    }
    let mut accepting = JoinSet::new();
    for listener in listeners {
        match listener {
            Listener::Tcp(listener) => accepting.spawn(accept(listener, request.target, vm.clone())),
            Listener::Udp(socket) => accepting.spawn(datagrams::serve(socket, request.target, vm.clone())),
        };
    }
    lease_ends(&mut guest).await;
    // Connections that are open end with the container, not with the lease.
}

/// A bound port.
#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Listener {
    fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr(),
            Listener::Udp(socket) => socket.local_addr(),
        }
    }
}

/// The lease is the stream: it ends with it, well or not.
async fn lease_ends(guest: &mut (impl AsyncRead + Unpin)) {
    let mut nothing = [0; 16];
    while matches!(guest.read(&mut nothing).await, Ok(1..)) {}
}

async fn accept(listener: TcpListener, target: SocketAddr, vm: Weak<dyn Vm>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let Some(vm) = vm.upgrade() else { return };
                tokio::spawn(async move {
                    if let Err(error) = carry(client, target, vm).await {
                        tracing::debug!(%target, %error, "a client of a published port was turned away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%target, %error, "cannot take a client of a published port");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn carry(client: TcpStream, target: SocketAddr, vm: std::sync::Arc<dyn Vm>) -> io::Result<()> {
    let dial = async {
        let mut guest = FramedStream::new(vm.connect(protocol::ports::PUBLISHED).await?);
        guest.send(&DialRequest { target, protocol: Transport::Tcp }).await?;
        match guest.recv().await? {
            Dialed::Connected => Ok(guest),
            Dialed::Failed { kind, message } => Err(io::Error::new(kind.into(), message)),
        }
    };
    match timeout(ANSWER_WITHIN, dial).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(guest) => {
            drop(vm);
            relay_tcp(guest, client).await;
            Ok(())
        }
        Err(error) => {
            // Nobody answers behind the port: the client should see a reset, not an empty answer.
            let _ = client.set_zero_linger();
            Err(error)
        }
    }
}

/// Binds what was asked for, or says in dockerd's words why not.
fn bind(request: &PublishRequest) -> Result<Vec<Listener>, String> {
    let PublishRequest { host_ip, host_port, protocol, target } = request;
    let shown = host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let name = match protocol {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let what = format!("failed to bind host port for {}:{target}/{name}", SocketAddr::new(shown, *host_port));
    let bound = match host_ip {
        Some(ip) => listen(SocketAddr::new(*ip, *host_port), *protocol).map(|listener| vec![listener]),
        None => listen_everywhere(*host_port, *protocol),
    };
    bound.map_err(|error| format!("{what}: {}", reason(&error, shown, *host_port, *protocol)))
}

fn reason(error: &io::Error, ip: IpAddr, port: u16, protocol: Transport) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => match holder::of(ip, port, protocol) {
            Some(holder) => format!("address already in use by {holder}"),
            None => "address already in use".to_owned(),
        },
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        io::ErrorKind::PermissionDenied => format!("permission denied: port {port} is reserved for root"),
        _ => error.to_string(),
    }
}

/// Both families on the same port. A host without IPv6 gets IPv4 alone.
fn listen_everywhere(port: u16, protocol: Transport) -> io::Result<Vec<Listener>> {
    for _ in 0..ANY_PORT_TRIES {
        let v4 = listen((Ipv4Addr::UNSPECIFIED, port).into(), protocol)?;
        let same = v4.address()?.port();
        match listen((Ipv6Addr::UNSPECIFIED, same).into(), protocol) {
            Ok(v6) => return Ok(vec![v4, v6]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && port != 0 => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(_) => return Ok(vec![v4]),
        }
    }
    Err(io::Error::from(io::ErrorKind::AddrInUse))
}

fn listen(address: SocketAddr, protocol: Transport) -> io::Result<Listener> {
    match protocol {
        Transport::Tcp => listen_tcp(address).map(Listener::Tcp),
        Transport::Udp => datagrams::bind(address).map(Listener::Udp),
    }
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // The IPv4 half is a socket of its own, whose clients keep their addresses unmapped.
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Who holds a port: the question that everyone asks next.
mod holder {
    use std::net::IpAddr;

    use protocol::Transport;

    /// The program that listens on a port of this host, where `/proc` tells.
    #[cfg(target_os = "linux")]
    pub(super) fn of(ip: IpAddr, port: u16, protocol: Transport) -> Option<String> {
        let tables = match protocol {
            Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
            Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        };
        let inode = tables.into_iter().find_map(|table| {
            let text = std::fs::read_to_string(table).ok()?;
            text.lines().skip(1).find_map(|line| listening_inode(line, ip, port))
        })?;
        let link = format!("socket:[{inode}]");
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let process =
            processes.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
        process.map(|entry| entry.path()).find_map(|dir| {
            let holds = std::fs::read_dir(dir.join("fd")).ok()?.flatten().any(|fd| {
                std::fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == link.as_str())
            });
            let name = std::fs::read_to_string(dir.join("comm")).ok()?;
            holds.then(|| {
                format!("{} (process {})", name.trim(), dir.file_name().unwrap_or_default().display())
            })
        })
    }

    /// macOS tells this to root alone.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(_ip: IpAddr, _port: u16, _protocol: Transport) -> Option<String> {
        None
    }

    /// The inode of a line of `/proc/net/tcp*` or `udp*`, if it is a listener in the way of `ip:port`.
    #[cfg(any(target_os = "linux", test))]
    pub(super) fn listening_inode(line: &str, ip: IpAddr, port: u16) -> Option<u64> {
        /// TCP's listening state, and that of a UDP socket without a peer.
        const LISTEN: [&str; 2] = ["0A", "07"];
        let mut fields = line.split_whitespace().skip(1);
        let (address, local_port) = fields.next()?.split_once(':')?;
        let state = fields.nth(1)?;
        if !LISTEN.contains(&state) || u16::from_str_radix(local_port, 16).ok()? != port {
            return None;
        }
        let bound_everywhere = address.bytes().all(|digit| digit == b'0');
        let same = match ip {
            // IPv4 addresses stand there in the machine's byte order.
            IpAddr::V4(ip) => u32::from_str_radix(address, 16).ok() == Some(u32::from_ne_bytes(ip.octets())),
            IpAddr::V6(_) => address.len() == 32,
        };
        (bound_everywhere || ip.is_unspecified() || same).then(|| fields.nth(5)?.parse().ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::{BoxFuture, BoxStream, Exit, Incoming};
    use std::sync::Arc;
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::{mpsc, watch};

    /// A guest whose every connection is handed to the test.
    struct Guest {
        dials: mpsc::UnboundedSender<DuplexStream>,
    }

    impl Vm for Guest {
        fn connect(&self, port: u32) -> BoxFuture<'_, io::Result<BoxStream>> {
            assert_eq!(port, protocol::ports::PUBLISHED);
            let (host, guest) = duplex(4096);
            self.dials.send(guest).unwrap();
            Box::pin(async { Ok(Box::new(host) as BoxStream) })
        }
        fn listen(&self, _port: u32) -> BoxFuture<'_, io::Result<Incoming>> {
            Box::pin(async { Ok(mpsc::channel(1).1) })
        }
        fn power_button(&self) -> BoxFuture<'_, io::Result<()>> {
            Box::pin(async { Ok(()) })
        }
        fn kill(&self) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }
        fn exited(&self) -> watch::Receiver<Option<Exit>> {
            watch::channel(None).1
        }
    }

    fn request(host_ip: Option<&str>, host_port: u16) -> PublishRequest {
        PublishRequest {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port,
            protocol: Transport::Tcp,
            target: "172.17.0.2:80".parse().unwrap(),
        }
    }

    async fn publish(
        vm: &Arc<dyn Vm>,
        request: PublishRequest,
    ) -> (FramedStream<DuplexStream>, PublishReply) {
        let (guest, served) = duplex(4096);
        tokio::spawn(serve(FramedStream::new(served), Arc::downgrade(vm)));
        let mut guest = FramedStream::new(guest);
        guest.send(&request).await.unwrap();
        let reply = guest.recv().await.unwrap();
        (guest, reply)
    }

    fn published(reply: PublishReply) -> Vec<SocketAddr> {
        match reply {
            PublishReply::Published { addresses } => addresses,
            PublishReply::Refused { message } => panic!("{message}"),
        }
    }

    #[tokio::test]
    async fn a_client_reaches_the_container_and_the_port_closes_with_its_lease() {
        let (dials, mut dialed) = mpsc::unbounded_channel();
        let vm: Arc<dyn Vm> = Arc::new(Guest { dials });
        let (lease, reply) = publish(&vm, request(Some("127.0.0.1"), 0)).await;
        let address = published(reply)[0];
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut guest = FramedStream::new(dialed.recv().await.unwrap());
        let dial: DialRequest = guest.recv().await.unwrap();
        assert_eq!(dial.target, "172.17.0.2:80".parse().unwrap());
        guest.send(&Dialed::Connected).await.unwrap();
        guest.write_all(b"page").await.unwrap();
        guest.shutdown().await.unwrap();
        let mut page = String::new();
        client.read_to_string(&mut page).await.unwrap();
        assert_eq!(page, "page");

        drop(lease);
        // The listener's task ends some polls later; until then a client is accepted and reset.
        let closed = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), closed).await.unwrap();
    }

    #[tokio::test]
    async fn a_container_that_refuses_resets_the_client() {
        let (dials, mut dialed) = mpsc::unbounded_channel();
        let vm: Arc<dyn Vm> = Arc::new(Guest { dials });
        let (_lease, reply) = publish(&vm, request(Some("127.0.0.1"), 0)).await;
        let mut client = TcpStream::connect(published(reply)[0]).await.unwrap();
        let mut guest = FramedStream::new(dialed.recv().await.unwrap());
        let _: DialRequest = guest.recv().await.unwrap();
        let kind = protocol::DialFailure::Refused;
        guest.send(&Dialed::Failed { kind, message: "nobody".to_owned() }).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_busy_port_is_refused_in_dockerds_words_and_names_its_holder() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let message = bind(&request(Some("127.0.0.1"), port)).unwrap_err();
        let words = format!(
            "failed to bind host port for 127.0.0.1:{port}:172.17.0.2:80/tcp: address already in use"
        );
        assert!(message.starts_with(&words), "{message}");
        if cfg!(target_os = "linux") {
            assert!(message.ends_with(&format!("(process {})", std::process::id())), "{message}");
        }
    }

    #[tokio::test]
    async fn any_port_is_the_same_one_in_both_families() {
        let listeners = bind(&request(None, 0)).unwrap();
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.address().unwrap().port()).collect();
        assert!(ports.iter().all(|&port| port == ports[0] && port != 0), "{ports:?}");
    }

    #[tokio::test]
    async fn datagrams_of_each_client_have_a_conversation_of_their_own() {
        let (dials, mut dialed) = mpsc::unbounded_channel();
        let vm: Arc<dyn Vm> = Arc::new(Guest { dials });
        let request = PublishRequest { protocol: Transport::Udp, ..request(Some("127.0.0.1"), 0) };
        let (_lease, reply) = publish(&vm, request).await;
        let address = published(reply)[0];
        for word in [&b"one"[..], b"two"] {
            let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            client.connect(address).await.unwrap();
            client.send(word).await.unwrap();
            let mut guest = FramedStream::new(dialed.recv().await.unwrap());
            let dial: DialRequest = guest.recv().await.unwrap();
            assert_eq!(dial.protocol, Transport::Udp);
            guest.send(&Dialed::Connected).await.unwrap();
            for again in [true, false] {
                let heard = protocol::recv_datagram(&mut guest).await.unwrap();
                assert_eq!(heard, word);
                protocol::send_datagram(&mut guest, &heard).await.unwrap();
                let mut back = [0; 16];
                let length = client.recv(&mut back).await.unwrap();
                assert_eq!(&back[..length], word);
                if again {
                    client.send(word).await.unwrap();
                }
            }
        }
    }

    #[test]
    fn a_listener_is_found_by_port_and_address() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100";
        let at = |ip: &str, port| holder::listening_inode(line, ip.parse().unwrap(), port);
        if cfg!(target_endian = "little") {
            assert_eq!(at("127.0.0.1", 8080), Some(4242));
        }
        assert_eq!(at("0.0.0.0", 8080), Some(4242));
        assert_eq!(at("127.0.0.2", 8080), None);
        assert_eq!(at("127.0.0.1", 8081), None);
        assert_eq!(
            holder::listening_inode(&line.replace(" 0A ", " 01 "), "0.0.0.0".parse().unwrap(), 8080),
            None
        );
    }
}
