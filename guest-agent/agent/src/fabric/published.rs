//! Connections of the host's clients to published ports: dialled here, where containers can be reached.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use protocol::{DialRequest, Dialed, Transport, recv_datagram, send_datagram};
use tokio::net::{TcpStream, UdpSocket};

use super::Stream;

const CONNECTING: Duration = Duration::from_secs(10);
const LARGEST_DATAGRAM: usize = 65_535;

/// Serves one connection.
pub(crate) async fn serve(mut stream: Stream) {
    let Ok(request) = super::opening::<DialRequest>(&mut stream).await else { return };
    match dial(&request).await {
        Ok(dialed) => {
            if stream.send(&Dialed::Connected).await.is_err() {
                return;
            }
            match dialed {
                Reached::Stream(tcp) => super::carry(tcp, stream).await,
                Reached::Datagrams(udp) => carry_datagrams(&udp, stream).await,
            }
        }
        Err(error) => {
            let failed = Dialed::Failed { kind: error.kind().into(), message: error.to_string() };
            if stream.send(&failed).await.is_ok() {
                super::await_close(stream).await;
            }
        }
    }
}

/// A container that can be talked to.
enum Reached {
    Stream(TcpStream),
    Datagrams(UdpSocket),
}

async fn dial(request: &DialRequest) -> io::Result<Reached> {
    let target = request.target;
    if request.protocol == Transport::Udp {
        let any: IpAddr =
            if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let udp = UdpSocket::bind((any, 0)).await?;
        udp.connect(target).await?;
        return Ok(Reached::Datagrams(udp));
    }
    let tcp = tokio::time::timeout(CONNECTING, TcpStream::connect(target)).await??;
    tcp.set_nodelay(true)?;
    Ok(Reached::Stream(tcp))
}

/// Carries one client's datagrams until the host ends the conversation.
async fn carry_datagrams(udp: &UdpSocket, stream: Stream) {
    let (mut from_host, mut to_host) = tokio::io::split(stream);
    let inward = async {
        while let Ok(datagram) = recv_datagram(&mut from_host).await {
            // Nobody listens, for now: the datagram is lost, as on any way.
            let _ = udp.send(&datagram).await;
        }
    };
    let outward = async {
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        loop {
            match udp.recv(&mut buffer).await {
                Ok(length) if send_datagram(&mut to_host, &buffer[..length]).await.is_err() => return,
                // An error is an ICMP answer to something sent earlier.
                _ => {}
            }
        }
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}
