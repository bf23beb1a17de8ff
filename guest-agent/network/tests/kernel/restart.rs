//! What survives the engine, and what is left when it ends.

use std::net::SocketAddr;

use network::{NetworkConfig, NetworkError, NetworkSpec, Networks, RedirectSpec};

use crate::world::*;

#[test]
fn a_clean_end_leaves_nothing() {
    in_a_world(|world| {
        let before = link_names();
        world.network("net");
        let web = world.container("net");
        world.publish(&web, &[tcp(8080, 80)]).unwrap();
        assert!(matches!(world.networks.remove(&web.record.network), Err(NetworkError::NetworkInUse { .. })));
        world.networks.close().unwrap();
        assert_eq!(link_names(), before);
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn a_failed_attach_leaves_nothing() {
    in_a_world(|world| {
        world.network("net");
        let before = link_names();
        let first = world.container("net");
        let mut second = attach_spec("net");
        second.netns = Some(first.netns.try_clone().unwrap());
        let error = world.networks.attach(second).unwrap_err();
        assert_eq!(error.to_string(), "cannot create interface `eth0` on bridge `br-net000000000`");
        world.networks.detach(&first.record.id).unwrap();
        world.networks.settle();
        assert_eq!(link_names(), before);
        assert_eq!(address(&world.container("net")).to_string(), "172.17.0.2");
    });
}

#[test]
fn an_address_is_good_at_once_for_the_next_container() {
    in_a_world(|world| {
        world.network("net");
        let client = world.container("net");
        let one = world.container("net");
        serve(&one.netns, 80);
        let reach = || (inside(&client.netns, || hello((address(&one), 80))), hello((address(&one), 80)));
        assert!(matches!(reach(), (Ok(_), Ok(_))));
        world.networks.detach(&one.record.id).unwrap();
        let two = world.container("net");
        assert_eq!(address(&two), address(&one));
        serve(&two.netns, 80);
        assert!(matches!(reach(), (Ok(_), Ok(_))));
    });
}

fn link_names() -> Vec<String> {
    run("ip -o link show").lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned).collect()
}

#[test]
fn published_ports_go_on_without_an_engine_and_the_next_one_takes_over() {
    in_a_world(|world| {
        world.network("net");
        world.network("gone");
        let (web, dead) = (world.container("net"), world.container("net"));
        serve(&web.netns, 80);
        world.publish(&web, &[tcp(8080, 80)]).unwrap();
        world.publish(&dead, &[tcp(9090, 90)]).unwrap();
        let outer = SocketAddr::from(([192, 0, 2, 1], 8080));
        let reach = || inside(&world.outside, || hello(outer)).unwrap();
        reach();
        // The first engine is killed: it closes nothing. (Its sockets would be closed; here they stay in the way
        // of the port, so the port is published anew only after they are dropped by `close` at the end.)
        let next = networks("one");
        reach();
        next.create(&network_spec("net")).unwrap();
        reach();
        next.recover(std::slice::from_ref(&web.record)).unwrap();
        reach();
        let rules = run("nft list ruleset");
        assert!(rules.contains("8080") && !rules.contains("9090") && !rules.contains("br-gone"), "{rules}");
        let links = run("ip -j link show");
        assert!(links.contains(&web.record.host_link), "{links}");
        assert!(!links.contains(&dead.record.host_link) && !links.contains("br-gone"), "{links}");
        let other = next.attach(attach_spec("net")).unwrap();
        assert_eq!(address(&other).to_string(), "172.17.0.3", "the live one's address is taken");
    });
}

#[test]
fn engines_on_one_machine_do_not_disturb_each_other() {
    in_a_world(|world| {
        world.network("net");
        let web = world.container("net");
        serve(&web.netns, 80);
        let other = networks("two");
        let record = other.create(&network_spec("theirs")).unwrap();
        assert_eq!(record.subnets[0].subnet.to_string(), "172.18.0.0/16");
        let theirs = other.attach(attach_spec("theirs")).unwrap();
        other.recover(&[]).unwrap();
        serve(&world.outside, 80);
        let outside = SocketAddr::from(([192, 0, 2, 2], 80));
        assert_eq!(inside(&theirs.netns, || hello(outside)).unwrap(), "192.0.2.1");
        assert!(inside(&theirs.netns, || fails((address(&web), 80))), "engines' networks are cut off");
        assert_eq!(inside(&web.netns, || hello(outside)).unwrap(), "192.0.2.1");
        other.close().unwrap();
        assert_eq!(inside(&web.netns, || hello(outside)).unwrap(), "192.0.2.1");
    });
}

#[test]
fn a_lazy_engine_touches_nothing_before_the_first_container() {
    in_a_bare_namespace(|| {
        let before = link_names();
        let networks = Networks::new(NetworkConfig { lazy: true, ..config("lazy") }).unwrap();
        networks.create(&network_spec("net")).unwrap();
        networks.redirect_egress(&RedirectSpec { port: 7000 }).unwrap();
        networks.recover(&[]).unwrap();
        assert_eq!(link_names(), before);
        assert_eq!(run("nft list ruleset"), "");
        networks.attach(attach_spec("net")).unwrap();
        assert!(run("nft list ruleset").contains("redirect to :7000"));
        networks.close().unwrap();
        assert_eq!(link_names(), before);
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn somebody_elses_bridge_is_used_and_left_alone() {
    in_a_world(|world| {
        run("ip link add name lan type bridge");
        run("ip addr add 10.7.0.1/24 dev lan");
        let spec = NetworkSpec { link: Some("lan".to_owned()), ..network_spec("net") };
        let record = world.networks.create(&spec).unwrap();
        assert_eq!(record.subnets[0].subnet.to_string(), "10.7.0.0/24");
        let container = world.container("net");
        assert_eq!(address(&container).to_string(), "10.7.0.2");
        world.networks.detach(&container.record.id).unwrap();
        world.networks.remove(&record.id).unwrap();
        assert!(link_names().contains(&"lan".to_owned()));
        let other = NetworkSpec { link: Some("up0".to_owned()), ..network_spec("other") };
        let error = world.networks.create(&other).unwrap_err();
        assert_eq!(error.to_string(), "link `up0` exists and is no bridge");
    });
}
