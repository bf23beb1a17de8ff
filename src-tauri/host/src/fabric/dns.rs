//! Names for the guest, by the host's own resolvers.
//!
//! Queries are forwarded as they came, so every record type works; only what the host itself knows is answered
//! here: the names of its hosts file and those by which a guest reaches the host.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use protocol::FramedStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::{HOST_ADDRESS, HOST_NAMES};
use crate::hypervisor::Stream;

/// A server that is silent for this long is passed over, as resolv.conf(5) does after its `timeout`.
const SERVER_WITHIN: Duration = Duration::from_secs(2);

/// Rounds over all servers.
const ROUNDS: usize = 2;

/// Queries of one connection that are under way at once. More wait unread.
const MAX_UNDER_WAY: usize = 256;

/// How long a guest may keep an answer that came from this host itself: hosts files change.
const OWN_TTL: u32 = 5;

/// The host's view of names.
#[derive(Debug)]
pub struct Resolver {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    port: u16,
}

impl Resolver {
    /// As this host is configured. The files are read at each query, since networks come and go.
    pub fn system() -> Resolver {
        Resolver { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into(), port: 53 }
    }

    /// The answer to one query, or none when it is no DNS at all.
    pub async fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let message = Message::from_vec(query).ok()?;
        if let Some(own) = self.own_answer(&message).await {
            return own.to_vec().ok();
        }
        for _ in 0..ROUNDS {
            for server in self.servers().await {
                match timeout(SERVER_WITHIN, forward(server, query, &message)).await {
                    Ok(Ok(answer)) => return Some(answer),
                    Ok(Err(error)) => tracing::debug!(%server, %error, "a DNS server failed"),
                    Err(_) => tracing::debug!(%server, "a DNS server is silent"),
                }
            }
        }
        Message::error_msg(message.id(), message.op_code(), ResponseCode::ServFail).to_vec().ok()
    }

    /// What this host knows by itself.
    async fn own_answer(&self, message: &Message) -> Option<Message> {
        let query = message.queries().first()?;
        if message.op_code() != OpCode::Query {
            return None;
        }
        let name = query.name().to_lowercase().to_string();
        let name = name.trim_end_matches('.');
        let addresses = if HOST_NAMES.contains(&name) {
            vec![IpAddr::V4(HOST_ADDRESS)]
        } else if name == "localhost" || name.ends_with(".localhost") {
            // RFC 6761, section 6.3: never asked of a server.
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        } else {
            let text = tokio::fs::read_to_string(&self.hosts).await.unwrap_or_default();
            hosts_entries(&text, name)
        };
        if addresses.is_empty() {
            return None;
        }
        let mut answer = Message::new();
        answer.set_id(message.id());
        answer.set_message_type(MessageType::Response);
        answer.set_recursion_desired(message.recursion_desired());
        answer.set_recursion_available(true);
        answer.add_query(query.clone());
        for address in addresses {
            let data = match (query.query_type(), address) {
                (RecordType::A, IpAddr::V4(ip)) => RData::A(A(ip)),
                (RecordType::AAAA, IpAddr::V6(ip)) => RData::AAAA(AAAA(ip)),
                _ => continue,
            };
            answer.add_answer(Record::from_rdata(query.name().clone(), OWN_TTL, data));
        }
        Some(answer)
    }

    async fn servers(&self) -> Vec<SocketAddr> {
        let text = tokio::fs::read_to_string(&self.resolv_conf).await.unwrap_or_default();
        let mut servers = nameservers(&text, self.port);
        if servers.is_empty() {
            // resolv.conf(5): without any, the server on this machine is used.
            servers.push((Ipv4Addr::LOCALHOST, self.port).into());
        }
        servers
    }
}

/// Serves one connection of the guest: many queries, answered as their answers come.
pub(crate) async fn serve<S: Stream + 'static>(guest: FramedStream<S>, resolver: Arc<Resolver>) {
    let (mut reader, mut writer) = tokio::io::split(guest);
    let (answers, mut outgoing) = mpsc::channel::<Vec<u8>>(16);
    let under_way = Arc::new(Semaphore::new(MAX_UNDER_WAY));
    let read = async move {
        while let Ok(length) = reader.read_u16().await {
            let mut query = vec![0; usize::from(length)];
            if reader.read_exact(&mut query).await.is_err() {
                return;
            }
            let Ok(permit) = Arc::clone(&under_way).acquire_owned().await else { return };
            let (answers, resolver) = (answers.clone(), Arc::clone(&resolver));
            tokio::spawn(async move {
                if let Some(answer) = resolver.answer(&query).await {
                    let _ = answers.send(answer).await;
                }
                drop(permit);
            });
        }
    };
    let write = async move {
        while let Some(answer) = outgoing.recv().await {
            let Ok(length) = u16::try_from(answer.len()) else { continue };
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.extend(answer);
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
    };
    tokio::join!(read, write);
}

/// Asks one server by UDP, and by TCP when the answer doesn't fit.
async fn forward(server: SocketAddr, query: &[u8], message: &Message) -> io::Result<Vec<u8>> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = &buffer[..length];
        // What doesn't answer this question is a stray or forged datagram: the right one may still come.
        let Ok(parsed) = Message::from_vec(answer) else { continue };
        if parsed.id() != message.id() || parsed.queries() != message.queries() {
            continue;
        }
        return match (parsed.truncated(), parsed.response_code()) {
            (true, _) => forward_by_tcp(server, query).await,
            // The next server may be in a better state.
            (_, ResponseCode::ServFail | ResponseCode::Refused) => {
                Err(io::Error::other("it failed or refused"))
            }
            _ => Ok(answer.to_vec()),
        };
    }
}

async fn forward_by_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(query.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut stream = TcpStream::connect(server).await?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(query);
    stream.write_all(&bytes).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The servers that a resolv.conf(5) names. Addresses with a scope (`fe80::1%eth0`) are left out.
fn nameservers(text: &str, port: u16) -> Vec<SocketAddr> {
    let address = |line: &str| {
        line.trim().strip_prefix("nameserver")?.split_whitespace().next()?.parse::<IpAddr>().ok()
    };
    text.lines().filter_map(address).map(|ip| SocketAddr::new(ip, port)).collect()
}

/// The addresses that a hosts(5) file gives a name.
fn hosts_entries(text: &str, name: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;
    use std::path::Path;
    use std::str::FromStr as _;

    fn query(id: u16, name: &str, kind: RecordType) -> Message {
        let mut message = Message::new();
        message.set_id(id).set_recursion_desired(true);
        message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
        message
    }

    fn resolver(dir: &Path, resolv_conf: &str, hosts: &str, port: u16) -> Resolver {
        let file = |name: &str, text: &str| {
            std::fs::write(dir.join(name), text).unwrap();
            dir.join(name)
        };
        Resolver { resolv_conf: file("resolv.conf", resolv_conf), hosts: file("hosts", hosts), port }
    }

    async fn ask(resolver: &Resolver, message: &Message) -> Message {
        Message::from_vec(&resolver.answer(&message.to_vec().unwrap()).await.unwrap()).unwrap()
    }

    fn addresses(message: &Message) -> Vec<String> {
        message.answers().iter().map(|record| record.data().to_string()).collect()
    }

    /// A server that answers each query by what `reply` makes of it.
    async fn server(ip: &str, port: u16, reply: fn(&Message) -> Option<Message>) -> SocketAddr {
        let socket = UdpSocket::bind((ip, port)).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if let Some(answer) = reply(&Message::from_vec(&buffer[..length]).unwrap()) {
                    socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
                }
            }
        });
        address
    }

    fn good(query: &Message) -> Option<Message> {
        let mut answer = query.clone();
        answer.set_message_type(MessageType::Response);
        let name = query.queries()[0].name().clone();
        answer.add_answer(Record::from_rdata(name, 60, RData::A(A::new(10, 1, 2, 3))));
        Some(answer)
    }

    #[tokio::test]
    async fn the_hosts_names_have_the_fabrics_address_and_no_ipv6() {
        let dir = tempfile::tempdir().unwrap();
        let resolver = resolver(dir.path(), "", "", 1);
        for name in ["host.docker.internal.", "Gateway.docker.INTERNAL."] {
            let answer = ask(&resolver, &query(7, name, RecordType::A)).await;
            assert_eq!((answer.id(), addresses(&answer)), (7, vec!["192.168.65.254".to_owned()]));
            let answer = ask(&resolver, &query(8, name, RecordType::AAAA)).await;
            assert_eq!((answer.response_code(), answer.answers().len()), (ResponseCode::NoError, 0));
        }
    }

    #[tokio::test]
    async fn the_hosts_file_comes_before_any_server() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = "10.0.0.7 build.corp build # the builder\n::7 build.corp\n#10.0.0.8 old.corp\n";
        let resolver = resolver(dir.path(), "", hosts, 1);
        let answer = ask(&resolver, &query(1, "BUILD.corp.", RecordType::A)).await;
        assert_eq!(addresses(&answer), ["10.0.0.7"]);
        let answer = ask(&resolver, &query(1, "build.corp.", RecordType::AAAA)).await;
        assert_eq!(addresses(&answer), ["::7"]);
    }

    #[tokio::test]
    async fn a_failing_server_gives_way_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let fails =
            |query: &Message| Some(Message::error_msg(query.id(), query.op_code(), ResponseCode::ServFail));
        let first = server("127.0.0.1", 0, fails).await;
        server("127.0.0.2", first.port(), good).await;
        let conf = "search corp\nnameserver 127.0.0.1\nnameserver 127.0.0.2\n";
        let resolver = resolver(dir.path(), conf, "", first.port());
        let answer = ask(&resolver, &query(9, "example.org.", RecordType::A)).await;
        assert_eq!((answer.id(), addresses(&answer)), (9, vec!["10.1.2.3".to_owned()]));
    }

    #[tokio::test]
    async fn no_server_at_all_is_a_server_failure() {
        let dir = tempfile::tempdir().unwrap();
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let resolver = resolver(dir.path(), "nameserver 127.0.0.1\n", "", closed);
        let answer = ask(&resolver, &query(3, "example.org.", RecordType::MX)).await;
        assert_eq!((answer.id(), answer.response_code()), (3, ResponseCode::ServFail));
    }

    #[tokio::test]
    async fn one_connection_carries_many_queries() {
        let dir = tempfile::tempdir().unwrap();
        let resolver = Arc::new(resolver(dir.path(), "", "10.0.0.1 one\n10.0.0.2 two\n", 1));
        let (guest, served) = tokio::io::duplex(4096);
        tokio::spawn(serve(FramedStream::new(served), resolver));
        let mut guest = FramedStream::new(guest);
        for (id, name) in [(1, "one."), (2, "two.")] {
            let bytes = query(id, name, RecordType::A).to_vec().unwrap();
            guest.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
            guest.write_all(&bytes).await.unwrap();
        }
        guest.shutdown().await.unwrap();
        let mut answers = Vec::new();
        while let Ok(length) = guest.read_u16().await {
            let mut bytes = vec![0; usize::from(length)];
            guest.read_exact(&mut bytes).await.unwrap();
            let answer = Message::from_vec(&bytes).unwrap();
            answers.push((answer.id(), addresses(&answer).concat()));
        }
        answers.sort();
        assert_eq!(answers, [(1, "10.0.0.1".to_owned()), (2, "10.0.0.2".to_owned())]);
    }

    #[test]
    fn resolv_conf_is_read_as_its_manual_says() {
        let text =
            "# nameserver 9.9.9.9\nnameserver\t1.1.1.1 \nnameserver 2001:db8::1\nnameserver fe80::1%eth0\n";
        let found: Vec<String> = nameservers(text, 53).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["1.1.1.1:53", "[2001:db8::1]:53"]);
    }
}
