//! Names to addresses without the C library: a statically linked one cannot load what it resolves names with.
//!
//! Reads `/etc/hosts` and `/etc/resolv.conf` for each question, so that a change of network needs no restart, and
//! asks the name servers in their order. Only native runs use it: in the VM the host resolves.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

const ASKING: Duration = Duration::from_secs(3);
const CONNECTING: Duration = Duration::from_secs(15);
const ATTEMPTS: usize = 2;

/// Dials from this machine.
pub(crate) struct DirectDial;

impl image::Dial for DirectDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn image::Stream>>> {
        Box::pin(async move {
            let mut last = io::Error::new(io::ErrorKind::NotFound, format!("lookup {host}: no such host"));
            for address in resolve(host).await? {
                match tokio::time::timeout(CONNECTING, TcpStream::connect((address, port))).await {
                    Ok(Ok(stream)) => {
                        stream.set_nodelay(true)?;
                        return Ok(Box::new(stream) as Box<dyn image::Stream>);
                    }
                    Ok(Err(error)) => last = error,
                    Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer to a connect"),
                }
            }
            Err(last)
        })
    }
}

/// The system's name servers and search domains.
#[derive(Debug, Default, PartialEq, Eq)]
struct Configuration {
    servers: Vec<IpAddr>,
    search: Vec<String>,
}

/// The addresses of a host, IPv4 first.
async fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return Ok(vec![address]);
    }
    let known = in_hosts(&fs::read_to_string("/etc/hosts").unwrap_or_default(), host);
    if !known.is_empty() {
        return Ok(known);
    }
    if host == "localhost" {
        return Ok(vec![IpAddr::from([127, 0, 0, 1])]);
    }
    let configuration = parse(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    for name in candidates(host, &configuration.search) {
        let name =
            Name::from_utf8(&name).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let found = lookup(&name, &configuration.servers).await?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("lookup {host}: no such host")))
}

async fn lookup(name: &Name, servers: &[IpAddr]) -> io::Result<Vec<IpAddr>> {
    let (four, six) =
        tokio::join!(ask_any(name, RecordType::A, servers), ask_any(name, RecordType::AAAA, servers));
    // A server that fails on one kind may know the other.
    let mut found = match (four, six) {
        (Err(error), Err(_)) => return Err(error),
        (four, six) => [four.unwrap_or_default(), six.unwrap_or_default()].concat(),
    };
    found.sort_by_key(IpAddr::is_ipv6);
    Ok(found)
}

async fn ask_any(name: &Name, kind: RecordType, servers: &[IpAddr]) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no name server is configured");
    for _ in 0..ATTEMPTS {
        for server in servers {
            match ask(name, kind, SocketAddr::new(*server, 53)).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    last = io::Error::new(error.kind(), format!("lookup {name} on {server}: {error}"));
                }
            }
        }
    }
    Err(last)
}

async fn ask(name: &Name, kind: RecordType, server: SocketAddr) -> io::Result<Vec<IpAddr>> {
    let id = unguessable();
    let mut message = Message::new();
    message.set_id(id).set_recursion_desired(true).add_query(Query::query(name.clone(), kind));
    let query = message.to_vec().map_err(io::Error::other)?;
    let reply = tokio::time::timeout(ASKING, ask_udp(&query, server)).await??;
    let mut reply = Message::from_vec(&reply).map_err(io::Error::other)?;
    if reply.truncated() {
        let whole = tokio::time::timeout(ASKING, ask_tcp(&query, server)).await??;
        reply = Message::from_vec(&whole).map_err(io::Error::other)?;
    }
    if reply.id() != id {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question"));
    }
    match reply.response_code() {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        other => return Err(io::Error::other(other.to_string())),
    }
    Ok(reply
        .answers()
        .iter()
        .filter_map(|record| match record.data() {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        })
        .collect())
}

async fn ask_udp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    // Connected, so that only the server's answers come in.
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut reply = vec![0; 4096];
    let length = socket.recv(&mut reply).await?;
    reply.truncate(length);
    Ok(reply)
}

async fn ask_tcp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut message = (query.len() as u16).to_be_bytes().to_vec();
    message.extend_from_slice(query);
    stream.write_all(&message).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

/// An identifier that nobody can guess, against forged answers.
fn unguessable() -> u16 {
    let mut bytes = [0; 2];
    // The kernel has given out randomness long before a name is looked up.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}

fn in_hosts(hosts: &str, wanted: &str) -> Vec<IpAddr> {
    hosts
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|name| name.eq_ignore_ascii_case(wanted)).then_some(address)
        })
        .collect()
}

fn parse(text: &str) -> Configuration {
    let mut configuration = Configuration::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            // A zone behind `%` only matters for link-local servers, which a std address cannot carry.
            Some("nameserver") => {
                configuration.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
            }
            Some("search" | "domain") => configuration.search = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    configuration
}

/// The full names to ask for, in order: a name with a dot is tried as it is first.
fn candidates(host: &str, search: &[String]) -> Vec<String> {
    let plain = format!("{}.", host.trim_end_matches('.'));
    if host.ends_with('.') {
        return vec![plain];
    }
    let searched = search.iter().map(|domain| format!("{host}.{}.", domain.trim_end_matches('.')));
    if host.contains('.') {
        std::iter::once(plain).chain(searched).collect()
    } else {
        searched.chain(std::iter::once(plain)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_by_any_name_and_comments_are_none() {
        let hosts = "127.0.0.1 localhost # registry\n10.0.0.1\tregistry Registry.local\n::1 localhost\n";
        assert_eq!(in_hosts(hosts, "registry.LOCAL"), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(in_hosts(hosts, "localhost").len(), 2);
    }

    #[test]
    fn the_system_configuration_is_read() {
        let text = "# c\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nsearch a.example b.example\noptions ndots:1\n";
        let expected = Configuration {
            servers: vec!["10.0.0.2".parse().unwrap()],
            search: vec!["a.example".into(), "b.example".into()],
        };
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn a_name_with_a_dot_is_tried_as_it_is_first() {
        let search = ["lan".to_owned()];
        assert_eq!(candidates("registry", &search), ["registry.lan.", "registry."]);
        assert_eq!(candidates("a.b", &search), ["a.b.", "a.b.lan."]);
        assert_eq!(candidates("a.b.", &search), ["a.b."]);
    }

    #[tokio::test]
    async fn a_truncated_answer_is_asked_for_again_by_tcp() {
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let name = Name::from_utf8("registry.example.").unwrap();
        let owner = name.clone();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            let mut reply = Message::from_vec(&buffer[..length]).unwrap();
            reply.set_message_type(hickory_proto::op::MessageType::Response).set_truncated(true);
            udp.send_to(&reply.to_vec().unwrap(), client).await.unwrap();
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut query).await.unwrap();
            let mut reply = Message::from_vec(&query).unwrap();
            let data = RData::A(std::net::Ipv4Addr::new(10, 1, 2, 3).into());
            reply.add_answer(hickory_proto::rr::Record::from_rdata(owner, 1, data));
            let bytes = reply.to_vec().unwrap();
            stream.write_u16(bytes.len() as u16).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        });
        let found = ask(&name, RecordType::A, address).await.unwrap();
        assert_eq!(found, [IpAddr::from([10, 1, 2, 3])]);
        serving.await.unwrap();
    }
}
