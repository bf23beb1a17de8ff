//! The name server of containers: every question goes to the host, whose resolver knows the host's networks.
//!
//! Listens on the bridges' addresses, by UDP and TCP. On the way to the host a message has its length before it,
//! which is what DNS over TCP looks like, so a TCP connection is simply carried.

mod cache;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::ports;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;

use cache::Cache;

const PORT: u16 = 53;
/// A resolver asks again after 5 seconds, as a rule; an answer after that is of no use.
const ANSWERING: Duration = Duration::from_secs(10);
/// Questions on their way at a time; more wait in the socket's buffer.
const AT_A_TIME: usize = 256;
const HEADER: usize = 12;

/// Binds both sockets.
pub(crate) async fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind(("0.0.0.0", PORT)).await?, TcpListener::bind(("0.0.0.0", PORT)).await?))
}

/// Serves both sockets.
pub(crate) async fn serve(udp: UdpSocket, tcp: TcpListener) {
    tokio::join!(serve_udp(Arc::new(udp)), serve_tcp(tcp));
}

async fn serve_udp(socket: Arc<UdpSocket>) {
    let room = Arc::new(Semaphore::new(AT_A_TIME));
    let cache = Arc::new(Cache::default());
    let mut query = vec![0; 4096];
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((length, client)) = socket.recv_from(&mut query).await else { continue };
        let (socket, cache, query) = (Arc::clone(&socket), Arc::clone(&cache), query[..length].to_vec());
        tokio::spawn(async move {
            answer(&socket, &cache, &query, client).await;
            drop(permit);
        });
    }
}

async fn answer(socket: &UdpSocket, cache: &Cache, query: &[u8], client: SocketAddr) {
    if query.len() < HEADER {
        return;
    }
    if let Some(known) = cache.get(query, Instant::now()) {
        let _ = socket.send_to(&fit(known, query), client).await;
        return;
    }
    let asked = tokio::time::timeout(ANSWERING, ask(query)).await;
    let reply = match asked {
        Ok(Ok(reply)) => {
            cache.put(query, &reply, Instant::now());
            fit(reply, query)
        }
        Ok(Err(_)) => failure(query),
        Err(_) => return,
    };
    let _ = socket.send_to(&reply, client).await;
}

async fn ask(query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = super::connect(ports::DNS).await?;
    let mut message = (query.len() as u16).to_be_bytes().to_vec();
    message.extend_from_slice(query);
    stream.write_all(&message).await?;
    stream.flush().await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

async fn serve_tcp(listener: TcpListener) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        tokio::spawn(async move {
            if let Ok(stream) = super::connect(ports::DNS).await {
                super::carry(tcp, stream).await;
            }
        });
    }
}

/// Cuts a reply that is too long for a datagram down to its header and question, with the mark that says: ask
/// again by TCP.
fn fit(mut reply: Vec<u8>, query: &[u8]) -> Vec<u8> {
    // A query with an additional record has EDNS, as good as always; 1232 bytes is what passes everywhere.
    let room = if query[10..12] == [0, 0] { 512 } else { 1232 };
    if reply.len() <= room || reply.len() < HEADER {
        return reply;
    }
    let end = question_end(&reply).unwrap_or(HEADER);
    reply.truncate(end);
    reply[2] |= 0x02;
    if end == HEADER {
        reply[4..6].fill(0);
    }
    reply[6..12].fill(0);
    reply
}

/// The answer "server failure" to a query.
fn failure(query: &[u8]) -> Vec<u8> {
    let mut reply = query[..question_end(query).unwrap_or(HEADER)].to_vec();
    reply[2] |= 0x80;
    reply[3] = 0x80 | 2;
    if reply.len() == HEADER {
        reply[4..6].fill(0);
    }
    reply[6..12].fill(0);
    reply
}

/// Where the only question of a message ends.
fn question_end(message: &[u8]) -> Option<usize> {
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let mut at = HEADER;
    loop {
        match *message.get(at)? {
            0 => break,
            length if length < 64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    let end = at + 1 + 4;
    (end <= message.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> Vec<u8> {
        let mut query = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend_from_slice(b"\x07example\x03org\0\0\x01\0\x01");
        query
    }

    #[test]
    fn a_long_reply_is_cut_to_its_question_and_marked() {
        let mut reply = query();
        reply[7] = 40;
        reply.resize(600, 7);
        let cut = fit(reply.clone(), &query());
        assert_eq!(cut.len(), query().len());
        assert_eq!((cut[2] & 2, &cut[4..12]), (2, &[0, 1, 0, 0, 0, 0, 0, 0][..]));
        let mut with_edns = query();
        with_edns[11] = 1;
        assert_eq!(fit(reply.clone(), &with_edns), reply);
    }

    #[test]
    fn a_failure_repeats_the_question() {
        let reply = failure(&query());
        assert_eq!(reply[..2], [0x12, 0x34]);
        assert_eq!((reply[2] & 0x80, reply[3] & 15), (0x80, 2));
        assert_eq!(reply[HEADER..], query()[HEADER..]);
    }

    #[test]
    fn a_malformed_question_is_no_panic() {
        for length in HEADER..query().len() {
            let short = &query()[..length];
            assert_eq!(question_end(short), None);
            assert_eq!(failure(short).len(), HEADER);
        }
    }
}
