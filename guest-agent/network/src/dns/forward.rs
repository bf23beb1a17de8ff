//! Asking other name servers: the question goes as it came, under an identifier of our own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::time::Duration;

use sys::netlink::namespace;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::{Context, Upstream};

/// A resolver asks again after five seconds: two servers must fit in.
const PATIENCE: Duration = Duration::from_secs(2);
const HEADER: usize = 12;
const LARGEST_DATAGRAM: usize = 65_535;
/// In the fourth byte of a header, the answer's code; 2 is a failure of the server, 5 a refusal.
const CODE: u8 = 0x0f;

/// Asks the servers in their order until one answers; a server's failure is an answer when no other has a better.
pub(super) async fn ask(question: &[u8], context: &Context, by_tcp: bool) -> Option<Vec<u8>> {
    let mut failure = None;
    for server in &context.servers {
        let asked = async {
            if by_tcp {
                ask_by_tcp(question, context, *server).await
            } else {
                ask_by_udp(question, context, *server).await
            }
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(reply)) if matches!(reply[3] & CODE, 2 | 5) => failure = Some(reply),
            Ok(Ok(reply)) => return Some(reply),
            Ok(Err(error)) => {
                tracing::debug!(server = %server.address, %error, "a name server does not answer");
            }
            Err(_) => tracing::debug!(server = %server.address, "a name server is too slow"),
        }
    }
    failure
}

async fn ask_by_udp(question: &[u8], context: &Context, server: Upstream) -> io::Result<Vec<u8>> {
    let socket = if server.inside {
        let netns = context.netns.try_clone()?;
        let opened = tokio::task::spawn_blocking(move || {
            namespace::within(netns.as_fd(), || std::net::UdpSocket::bind(any(server.address)))
        });
        let socket = opened.await??;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)?
    } else {
        UdpSocket::bind(any(server.address)).await?
    };
    // Connected, so that only the server's answers come in, and its absence is heard of.
    socket.connect(server.address).await?;
    let id = unguessable();
    socket.send(&with_id(question, id)).await?;
    let mut reply = vec![0; LARGEST_DATAGRAM];
    loop {
        let length = socket.recv(&mut reply).await?;
        if answers(&reply[..length], id) {
            reply.truncate(length);
            return Ok(with_id(&reply, [question[0], question[1]]));
        }
    }
}

async fn ask_by_tcp(question: &[u8], context: &Context, server: Upstream) -> io::Result<Vec<u8>> {
    let mut stream = if server.inside {
        let netns = context.netns.try_clone()?;
        let opened = tokio::task::spawn_blocking(move || {
            namespace::within(netns.as_fd(), || {
                std::net::TcpStream::connect_timeout(&server.address, PATIENCE)
            })
        });
        let stream = opened.await??;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)?
    } else {
        TcpStream::connect(server.address).await?
    };
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    let id = unguessable();
    stream.write_all(&[&length.to_be_bytes()[..], &with_id(question, id)].concat()).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    if answers(&reply, id) {
        Ok(with_id(&reply, [question[0], question[1]]))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question"))
    }
}

fn any(server: SocketAddr) -> (IpAddr, u16) {
    (if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }, 0)
}

fn with_id(message: &[u8], id: [u8; 2]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[..2].copy_from_slice(&id);
    message
}

/// Whether this is an answer to the question of that identifier.
fn answers(message: &[u8], id: [u8; 2]) -> bool {
    message.len() >= HEADER && message[..2] == id && message[2] & 0x80 != 0
}

/// An identifier that nobody can guess, against forged answers.
fn unguessable() -> [u8; 2] {
    let mut bytes = [0; 2];
    // The kernel has given out randomness long before a container asks for a name.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_with_the_right_identifier_counts() {
        let mut message = vec![0; HEADER];
        message[..3].copy_from_slice(&[1, 2, 0x80]);
        assert!(answers(&message, [1, 2]));
        assert!(!answers(&message, [2, 1]));
        assert!(!answers(&message[..HEADER - 1], [1, 2]));
        message[2] = 0;
        assert!(!answers(&message, [1, 2]), "a question is no answer");
    }
}
