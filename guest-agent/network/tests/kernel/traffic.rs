//! Who reaches whom.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;

use network::{MacAddress, NetworkError, NetworkSpec, RedirectSpec, SubnetSpec};

use crate::world::*;

#[test]
fn a_container_gets_address_route_and_hardware_address() {
    in_a_world(|world| {
        let record = world.network("net");
        assert_eq!(record.subnets[0].subnet.to_string(), "172.17.0.0/16");
        let container = world.container("net");
        assert_eq!(address(&container).to_string(), "172.17.0.2");
        inside(&container.netns, || {
            let link = run("ip -j addr show dev eth0");
            assert!(
                link.contains("\"local\":\"172.17.0.2\",\"prefixlen\":16,\"broadcast\":\"172.17.255.255\""),
                "{link}"
            );
            assert!(link.contains("\"address\":\"02:42:ac:11:00:02\""), "{link}");
            assert!(!link.contains("inet6"), "{link}");
            assert!(run("ip -j route").contains("\"dst\":\"default\",\"gateway\":\"172.17.0.1\""));
        });
        let bridge = run("ip -j addr show dev br-net000000000");
        assert!(bridge.contains("\"local\":\"172.17.0.1\""), "{bridge}");
    });
}

#[test]
fn members_of_a_network_reach_each_other_unchanged() {
    in_a_world(|world| {
        world.network("net");
        let (one, two) = (world.container("net"), world.container("net"));
        serve(&one.netns, 80);
        let said = inside(&two.netns, || hello((address(&one), 80)));
        assert_eq!(said.unwrap(), address(&two).to_string());
    });
}

#[test]
fn the_outside_sees_the_machines_address() {
    in_a_world(|world| {
        world.network("net");
        let container = world.container("net");
        serve(&world.outside, 80);
        let outside = SocketAddr::from(([192, 0, 2, 2], 80));
        assert_eq!(inside(&container.netns, || hello(outside)).unwrap(), "192.0.2.1");
    });
}

#[test]
fn networks_are_cut_off_from_each_other_and_the_outside_from_them() {
    in_a_world(|world| {
        world.network("one");
        world.network("two");
        let (one, two) = (world.container("one"), world.container("two"));
        serve(&one.netns, 80);
        assert!(inside(&two.netns, || fails((address(&one), 80))));
        inside(&world.outside, || run("ip route add 172.16.0.0/12 via 192.0.2.1"));
        assert!(inside(&world.outside, || fails((address(&one), 80))));
        assert!(hello((address(&one), 80)).is_ok(), "the machine itself reaches it");
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    in_a_world(|world| {
        let spec = NetworkSpec { internal: true, ..network_spec("net") };
        world.networks.create(&spec).unwrap();
        let (one, two) = (world.container("net"), world.container("net"));
        serve(&world.outside, 80);
        serve(&one.netns, 80);
        assert_eq!(one.record.gateway, None);
        inside(&two.netns, || run("ip route add default via 172.17.0.1"));
        assert!(inside(&two.netns, || fails(SocketAddr::from(([192, 0, 2, 2], 80)))));
        assert!(inside(&two.netns, || hello((address(&one), 80))).is_ok());
        assert_eq!(world.publish(&one, &[tcp(8080, 80)]).unwrap(), []);
    });
}

#[test]
fn members_that_must_not_talk_cannot() {
    in_a_world(|world| {
        let spec = NetworkSpec { members_talk: Some(false), ..network_spec("net") };
        world.networks.create(&spec).unwrap();
        let (one, two) = (world.container("net"), world.container("net"));
        serve(&one.netns, 80);
        assert!(inside(&two.netns, || fails((address(&one), 80))));
        assert!(hello((address(&one), 80)).is_ok());
    });
}

#[test]
fn a_container_does_not_reach_the_machines_loopback() {
    in_a_world(|world| {
        world.network("net");
        let container = world.container("net");
        let _listener = TcpListener::bind("127.0.0.1:9000").unwrap();
        let reached = inside(&container.netns, || {
            run("ip addr del 127.0.0.1/8 dev lo");
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            run("ip route add 127.0.0.1 via 172.17.0.1 src 172.17.0.2");
            !fails(SocketAddr::from(([127, 0, 0, 1], 9000)))
        });
        assert!(!reached);
    });
}

#[test]
fn outgoing_connections_are_redirected_where_there_is_no_way_out() {
    in_a_bare_namespace(|| {
        run("ip link set lo up");
        let networks = networks("vm");
        networks.create(&network_spec("net")).unwrap();
        let listener = TcpListener::bind("0.0.0.0:7000").unwrap();
        networks.redirect_egress(&RedirectSpec { port: 7000 }).unwrap();
        let one = networks.attach(attach_spec("net")).unwrap();
        let two = networks.attach(attach_spec("net")).unwrap();
        let far = SocketAddr::from(([203, 0, 113, 5], 443));
        let dialed = std::thread::scope(|scope| {
            let client = scope.spawn(|| inside(&one.netns, || std::net::TcpStream::connect(far).is_ok()));
            let (stream, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip(), address(&one));
            assert!(client.join().unwrap());
            original_destination(stream.as_fd())
        });
        assert_eq!(dialed, far);
        serve(&one.netns, 80);
        assert!(inside(&two.netns, || hello((address(&one), 80))).is_ok(), "neighbours are not redirected");
        networks.close().unwrap();
    });
}

/// What the agent's egress listener asks.
fn original_destination(stream: std::os::fd::BorrowedFd<'_>) -> SocketAddr {
    rustix::net::sockopt::ip_original_dst(stream).unwrap().into()
}

#[test]
fn wanted_addresses_are_given_or_refused_in_dockers_words() {
    in_a_world(|world| {
        let subnet = SubnetSpec {
            subnet: "10.9.0.0/24".parse().unwrap(),
            range: None,
            gateway: Some("10.9.0.254".parse().unwrap()),
            reserved: vec!["10.9.0.1".parse().unwrap()],
        };
        let spec = NetworkSpec { subnets: vec![subnet], ..network_spec("net") };
        world.networks.create(&spec).unwrap();
        let mut wish = attach_spec("net");
        wish.ipv4 = Some(Ipv4Addr::new(10, 9, 0, 77));
        wish.mac = Some(MacAddress([2, 0, 0, 0, 0, 9]));
        wish.interface = Some("lan0".to_owned());
        let container = world.networks.attach(wish).unwrap();
        inside(&container.netns, || {
            let link = run("ip -j addr show dev lan0");
            assert!(link.contains("10.9.0.77") && link.contains("02:00:00:00:00:09"), "{link}");
        });
        assert_eq!(address(&world.container("net")).to_string(), "10.9.0.2");
        let mut again = attach_spec("net");
        again.ipv4 = Some(Ipv4Addr::new(10, 9, 0, 77));
        assert_eq!(world.networks.attach(again).unwrap_err().to_string(), "Address already in use");
        let mut far = attach_spec("net");
        far.ipv4 = Some(Ipv4Addr::new(10, 8, 0, 77));
        assert!(matches!(world.networks.attach(far), Err(NetworkError::AddressOutside { .. })));
        let overlapping = NetworkSpec { subnets: spec.subnets, ..network_spec("other") };
        assert_eq!(
            world.networks.create(&overlapping).unwrap_err().to_string(),
            "invalid pool request: Pool overlaps with other one on this address space"
        );
    });
}

#[test]
fn a_pool_that_the_machine_uses_is_passed_over() {
    in_a_world(|world| {
        run("ip route add 172.17.5.0/24 via 192.0.2.2");
        assert_eq!(world.network("net").subnets[0].subnet.to_string(), "172.18.0.0/16");
    });
}
