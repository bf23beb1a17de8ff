//! Connections of the guest to the world outside, made with the host's own sockets and resolver.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use protocol::{DialFailure, EgressReply, EgressRequest, FramedStream, Transport};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{HOST_ADDRESS, HOST_NAMES, relay_tcp};
use crate::hypervisor::Stream;

/// The guest must say what it wants within this time.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// A connect that takes longer has failed. The guest's own programs mostly give up earlier.
const CONNECT_WITHIN: Duration = Duration::from_secs(60);

/// Head start of an address over the next one (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Serves one connection of the guest.
pub(crate) async fn serve<S: Stream>(mut guest: FramedStream<S>) {
    let Ok(Ok(request)) = timeout(ASK_WITHIN, guest.recv::<EgressRequest>()).await else { return };
    match connect(&request).await {
        Ok(tcp) => {
            let local = tcp.local_addr().unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
            if guest.send(&EgressReply::Connected { local }).await.is_ok() {
                relay_tcp(guest, tcp).await;
            }
        }
        Err((kind, message)) => {
            tracing::debug!(host = request.host, port = request.port, message, "egress failed");
            let _ = guest.send(&EgressReply::Failed { kind, message }).await;
        }
    }
}

async fn connect(request: &EgressRequest) -> Result<TcpStream, (DialFailure, String)> {
    let EgressRequest { host, port, protocol } = request;
    if *protocol != Transport::Tcp {
        return Err((DialFailure::Denied, "only TCP connections leave the VM".to_owned()));
    }
    let addresses = resolve(host, *port).await.map_err(|error| {
        // The resolver's own error kinds say nothing; a name that can't be resolved is a name not found.
        (DialFailure::NotFound, format!("cannot resolve `{host}`: {error}"))
    })?;
    match timeout(CONNECT_WITHIN, connect_any(&addresses)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err((failure_kind(&error), format!("cannot connect to `{host}:{port}`: {error}"))),
        Err(_) => {
            Err((DialFailure::TimedOut, format!("cannot connect to `{host}:{port}`: no answer in time")))
        }
    }
}

fn failure_kind(error: &io::Error) -> DialFailure {
    DialFailure::from(error.kind())
}

/// Where `host` is. The names and the address of the host itself mean its loopback.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    if HOST_NAMES.contains(&name.as_str()) || address == Ok(IpAddr::V4(HOST_ADDRESS)) {
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
    }
    if let Ok(address) = address {
        return Ok(vec![(address, port).into()]);
    }
    let found: Vec<SocketAddr> = tokio::net::lookup_host((name, port)).await?.collect();
    if found.is_empty() { Err(io::Error::from(io::ErrorKind::NotFound)) } else { Ok(interleave(found)) }
}

/// The families in turn, beginning with that of the resolver's first answer (RFC 8305, section 4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let v6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == v6_first);
    let mut second = second.into_iter();
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in first {
        all.push(address);
        all.extend(second.next());
    }
    all.extend(second);
    all
}

/// The first address that answers. Each gets a head start over the next, which a failure cuts short.
async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut tries = FuturesUnordered::new();
    let mut waiting = addresses.iter();
    let mut first_error = None;
    loop {
        match waiting.next() {
            Some(&address) => tries.push(TcpStream::connect(address)),
            None if tries.is_empty() => {
                return Err(first_error.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)));
            }
            None => {}
        }
        tokio::select! {
            Some(result) = tries.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            },
            () = sleep(HEAD_START), if waiting.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::net::TcpListener;

    async fn ask(host: &str, port: u16, protocol: Transport) -> (FramedStream<DuplexStream>, EgressReply) {
        let (guest, served) = duplex(4096);
        tokio::spawn(serve(FramedStream::new(served)));
        let mut guest = FramedStream::new(guest);
        guest.send(&EgressRequest { host: host.to_owned(), port, protocol }).await.unwrap();
        let reply = guest.recv().await.unwrap();
        (guest, reply)
    }

    fn kind(reply: EgressReply) -> DialFailure {
        match reply {
            EgressReply::Failed { kind, .. } => kind,
            EgressReply::Connected { local } => panic!("connected from {local}"),
        }
    }

    /// A port of the loopback that nobody listens on.
    async fn closed_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn the_hosts_own_names_and_address_lead_to_its_loopback() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in
            ["host.docker.internal", "Gateway.Docker.Internal.", "192.168.65.254", "127.0.0.1", "localhost"]
        {
            let (mut guest, reply) = ask(host, port, Transport::Tcp).await;
            assert!(matches!(reply, EgressReply::Connected { .. }), "{host}: {reply:?}");
            let (mut server, _) = listener.accept().await.unwrap();
            guest.write_all(b"hi").await.unwrap();
            guest.shutdown().await.unwrap();
            let mut heard = String::new();
            server.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "hi");
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let port = closed_port().await;
        let (_, reply) = ask("127.0.0.1", port, Transport::Tcp).await;
        assert_eq!(kind(reply), DialFailure::Refused);
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_not_found() {
        let (_, reply) = ask("no-such-name.invalid", 80, Transport::Tcp).await;
        assert_eq!(kind(reply), DialFailure::NotFound);
    }

    #[tokio::test]
    async fn a_datagram_flow_is_denied_in_words() {
        let (_, reply) = ask("127.0.0.1", 53, Transport::Udp).await;
        let EgressReply::Failed { kind, message } = reply else { panic!("{reply:?}") };
        assert_eq!((kind, message.as_str()), (DialFailure::Denied, "only TCP connections leave the VM"));
    }

    #[test]
    fn no_route_is_told_from_no_listener() {
        let kind = |errno: rustix::io::Errno| failure_kind(&io::Error::from(errno));
        assert_eq!(kind(rustix::io::Errno::NETUNREACH), DialFailure::Unreachable);
        assert_eq!(kind(rustix::io::Errno::HOSTUNREACH), DialFailure::Unreachable);
        assert_eq!(kind(rustix::io::Errno::TIMEDOUT), DialFailure::TimedOut);
        assert_eq!(kind(rustix::io::Errno::CONNREFUSED), DialFailure::Refused);
    }

    #[tokio::test]
    async fn a_dead_address_gives_way_to_a_live_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        let dead = SocketAddr::from(([127, 0, 0, 1], closed_port().await));
        assert_eq!(connect_any(&[dead, live]).await.unwrap().peer_addr().unwrap(), live);
    }

    #[test]
    fn families_take_turns() {
        let all =
            ["[::1]:1", "[::2]:1", "1.1.1.1:1", "[::3]:1", "2.2.2.2:1"].map(|text| text.parse().unwrap());
        let texts: Vec<String> = interleave(all.to_vec()).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
    }
}
