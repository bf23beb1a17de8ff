//! Published ports, from every side.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use network::{PortSpec, Protocol};

use crate::world::*;

#[test]
fn a_published_port_answers_from_everywhere() {
    in_a_world(|world| {
        world.network("net");
        world.network("other");
        let (web, neighbour, stranger) =
            (world.container("net"), world.container("net"), world.container("other"));
        serve(&web.netns, 80);
        let bindings = world.publish(&web, &[tcp(8080, 80)]).unwrap();
        let shown: Vec<_> =
            bindings.iter().map(|port| SocketAddr::new(port.host_ip, port.host_port).to_string()).collect();
        assert_eq!(shown, ["0.0.0.0:8080", "[::]:8080"]);
        let outer = SocketAddr::from(([192, 0, 2, 1], 8080));
        assert_eq!(inside(&world.outside, || hello(outer)).unwrap(), "192.0.2.2", "the true source is kept");
        assert_eq!(hello(outer).unwrap(), "192.0.2.1");
        assert_eq!(hello(SocketAddr::from(([127, 0, 0, 1], 8080))).unwrap(), "172.17.0.1");
        assert_eq!(world.hello_through_relay("[::1]:8080").unwrap(), "172.17.0.1");
        assert_eq!(inside(&web.netns, || hello(outer)).unwrap(), "172.17.0.1", "itself");
        assert_eq!(inside(&neighbour.netns, || hello(outer)).unwrap(), "172.17.0.1", "a neighbour");
        let gateway = SocketAddr::from(([172, 17, 0, 1], 8080));
        assert_eq!(inside(&neighbour.netns, || hello(gateway)).unwrap(), "172.17.0.1", "by the gateway");
        assert!(inside(&stranger.netns, || hello(outer)).is_ok(), "another network");
        let rules = run("nft -j list ruleset");
        assert!(rules.contains("8080") && rules.contains("172.17.0.2"), "{rules}");
        world.networks.detach(&web.record.id).unwrap();
        assert_eq!(hello(outer).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_port_on_one_address_is_on_that_one_only() {
    in_a_world(|world| {
        world.network("net");
        let web = world.container("net");
        serve(&web.netns, 80);
        let mut port = tcp(8080, 80);
        port.host_ip = Some("127.0.0.1".parse().unwrap());
        assert_eq!(world.publish(&web, &[port]).unwrap().len(), 1);
        assert!(hello(SocketAddr::from(([127, 0, 0, 1], 8080))).is_ok());
        assert!(fails(SocketAddr::from(([192, 0, 2, 1], 8080))));
        assert!(inside(&world.outside, || fails(SocketAddr::from(([192, 0, 2, 1], 8080)))));
    });
}

#[test]
fn datagrams_are_published_too() {
    in_a_world(|world| {
        world.network("net");
        let server = world.container("net");
        serve_datagrams(&server.netns, 53);
        let port = PortSpec { protocol: Protocol::Udp, ..tcp(5353, 53) };
        world.publish(&server, &[port]).unwrap();
        assert_eq!(inside(&world.outside, || datagram("192.0.2.1:5353")).unwrap(), "192.0.2.2");
        assert_eq!(datagram("127.0.0.1:5353").unwrap(), "172.17.0.1");
        let said = world.runtime.block_on(async {
            let socket = tokio::net::UdpSocket::bind("[::1]:0").await.unwrap();
            socket.connect("[::1]:5353").await.unwrap();
            socket.send(b"hello").await.unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).await.unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        });
        assert_eq!(said, "172.17.0.1");
    });
}

#[test]
fn a_busy_port_is_refused_in_dockers_words_and_nothing_stays_open() {
    in_a_world(|world| {
        world.network("net");
        let (one, two) = (world.container("net"), world.container("net"));
        world.publish(&one, &[tcp(8080, 80)]).unwrap();
        let error = world.publish(&two, &[tcp(8081, 81), tcp(8080, 80)]).unwrap_err().to_string();
        let prefix =
            format!("driver failed programming external connectivity on endpoint web ({}): ", two.record.id);
        assert_eq!(error, format!("{prefix}Bind for 0.0.0.0:8080 failed: port is already allocated"));
        let _listener = TcpListener::bind("0.0.0.0:8082").expect("free");
        let error = world.publish(&two, &[tcp(8081, 81), tcp(8082, 80)]).unwrap_err().to_string();
        let reason = "failed to bind host port for 0.0.0.0:8082:172.17.0.3:80/tcp: address already in use";
        assert_eq!(error, format!("{prefix}{reason}"));
        TcpListener::bind("0.0.0.0:8081").expect("the failed request's other port is free again");
        assert!(!run("nft list ruleset").contains("8081"));
        let mut range = tcp(8080, 80);
        range.host_port_end = 8090;
        assert_eq!(world.publish(&two, &[range]).unwrap()[0].host_port, 8081, "the first free of a range");
    });
}

#[test]
fn ephemeral_ports_have_one_number_for_both_families() {
    in_a_world(|world| {
        world.network("net");
        let web = world.container("net");
        let ports: Vec<_> = (1..=20).map(|port| tcp(0, port)).collect();
        let bindings = world.publish(&web, &ports).unwrap();
        assert_eq!(bindings.len(), 40);
        for pair in bindings.chunks(2) {
            assert_eq!(pair[0].host_port, pair[1].host_port);
            assert_eq!(pair[0].container_port, pair[1].container_port);
        }
        let numbers: BTreeSet<_> = bindings.iter().map(|port| port.host_port).collect();
        assert_eq!(numbers.len(), 20);
    });
}

#[test]
fn a_client_that_goes_on_sending_is_led_to_the_next_container() {
    in_a_world(|world| {
        world.network("net");
        let (old, new) = (world.container("net"), world.container("net"));
        for server in [&old, &new] {
            serve_datagrams(&server.netns, 53);
        }
        let port = [PortSpec { protocol: Protocol::Udp, ..tcp(5353, 53) }];
        world.publish(&old, &port).unwrap();
        let client = inside(&world.outside, || UdpSocket::bind("0.0.0.0:0").unwrap());
        client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        client.connect("192.0.2.1:5353").unwrap();
        let answered = || {
            client.send(b"hello").unwrap();
            client.recv(&mut [0; 64]).is_ok()
        };
        assert!(answered());
        world.networks.detach(&old.record.id).unwrap();
        world.publish(&new, &port).unwrap();
        assert!(answered(), "the conversation with the old one is forgotten");
    });
}
