//! The embedded name server, asked from inside containers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use network::{AttachSpec, Endpoint, ResolverSpec, Upstream};

use crate::world::*;

const SERVER: &str = "127.0.0.11:53";
const PATIENCE: Duration = Duration::from_secs(10);

/// A container with names and a name server that asks `upstream`.
fn named(world: &World, name: &str, upstream: &[SocketAddr]) -> Endpoint {
    let names = vec![name.to_owned(), "web".to_owned()];
    let spec = AttachSpec { container: name.to_owned(), names, ..attach_spec("net") };
    let endpoint = world.networks.attach(spec).unwrap();
    let servers = upstream.iter().map(|address| Upstream { address: *address, inside: false }).collect();
    let resolver = ResolverSpec { container: name.to_owned(), servers, ndots: false };
    let _guard = world.runtime.enter();
    world.networks.resolve(endpoint.netns.as_fd(), resolver).unwrap();
    endpoint
}

fn question(name: &str) -> Vec<u8> {
    let mut message = Message::new();
    message.set_id(4711).set_recursion_desired(true);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

fn by_udp(from: &Endpoint, name: &str) -> Message {
    inside(&from.netns, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(SERVER).unwrap();
        socket.send(&question(name)).unwrap();
        let mut reply = [0; 4096];
        let length = socket.recv(&mut reply).unwrap();
        Message::from_vec(&reply[..length]).unwrap()
    })
}

fn by_tcp(from: &Endpoint, name: &str) -> Message {
    inside(&from.netns, || {
        let mut stream = TcpStream::connect(SERVER).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let question = question(name);
        stream.write_all(&(question.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(&question).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply).unwrap();
        Message::from_vec(&reply).unwrap()
    })
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers().iter().map(|record| record.data().to_string()).collect()
}

/// A name server of this machine that knows one address, or fails.
fn upstream(code: ResponseCode) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let mut reply = Message::from_vec(&buffer[..length]).unwrap();
            reply.set_message_type(MessageType::Response).set_response_code(code);
            if code == ResponseCode::NoError {
                let name = reply.queries()[0].name().clone();
                reply.add_answer(Record::from_rdata(
                    name,
                    60,
                    RData::A(std::net::Ipv4Addr::new(192, 0, 2, 77).into()),
                ));
            }
            socket.send_to(&reply.to_vec().unwrap(), client).unwrap();
        }
    });
    address
}

#[test]
fn members_are_known_by_datagram_and_by_connection_and_the_rest_is_asked() {
    in_a_served_world(|world| {
        world.network("net");
        // Nobody listens on the first, the second fails: the third's answer counts.
        let dead = SocketAddr::from(([127, 0, 0, 1], 9));
        let servers = [dead, upstream(ResponseCode::ServFail), upstream(ResponseCode::NoError)];
        let (one, two) = (named(world, "one", &servers), named(world, "two", &servers));
        assert_eq!(addresses(&by_udp(&one, "two.")), ["172.17.0.3"]);
        assert_eq!(addresses(&by_tcp(&one, "web.")).len(), 2);
        let asked = by_udp(&two, "example.org.");
        assert_eq!((asked.id(), addresses(&asked)), (4711, vec!["192.0.2.77".to_owned()]));
        // Another server may have port 53 of the container for itself.
        inside(&one.netns, || UdpSocket::bind("0.0.0.0:53").map(drop)).unwrap();
        assert_eq!(addresses(&by_udp(&one, "two.")), ["172.17.0.3"]);
        world.networks.detach(&two.record.id).unwrap();
        assert_eq!(addresses(&by_udp(&one, "web.")), ["172.17.0.2"]);
    });
}

#[test]
fn when_every_server_fails_the_failure_is_told() {
    in_a_served_world(|world| {
        world.network("net");
        let one = named(world, "one", &[upstream(ResponseCode::ServFail)]);
        assert_eq!(by_udp(&one, "example.org.").response_code(), ResponseCode::ServFail);
        let two = named(world, "two", &[]);
        assert_eq!(by_udp(&two, "example.org.").response_code(), ResponseCode::ServFail);
    });
}

#[test]
fn answers_come_by_the_ten_thousand() {
    const QUESTIONS: usize = 20_000;
    const UNDER_WAY: usize = 32;
    in_a_served_world(|world| {
        world.network("net");
        let one = named(world, "one", &[]);
        let _two = named(world, "two", &[]);
        let took = inside(&one.netns, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(SERVER).unwrap();
            let question = question("two.");
            let mut reply = [0; 512];
            let began = Instant::now();
            for _ in 0..UNDER_WAY {
                socket.send(&question).unwrap();
            }
            for _ in UNDER_WAY..QUESTIONS {
                socket.recv(&mut reply).unwrap();
                socket.send(&question).unwrap();
            }
            began.elapsed()
        });
        let rate = QUESTIONS as f64 / took.as_secs_f64();
        println!("names: {rate:.0} answers a second to one client, both in this process");
        assert!(rate > 2000.0, "{rate}");
    });
}
