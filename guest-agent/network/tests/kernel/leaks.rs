//! After many comings and goings the machine is as it was: asked of `ip` and `nft`, not of this crate.

use std::time::Instant;

use network::{AddressPool, AttachSpec, NetworkConfig, NetworkSpec, Networks};

use crate::world::*;

/// What `ip` and `nft` know of: links, addresses, routes, and the filter's elements. Each line of its own, sorted.
fn everything() -> Vec<String> {
    let mut lines = Vec::new();
    for command in ["ip -br link", "ip -br -4 addr", "ip route show table all", "nft list ruleset"] {
        lines.extend(run(command).lines().map(|line| line.trim().to_owned()));
    }
    // What the kernel makes by itself, and the carrier of the world's own link, come when they like.
    let own = ["fe80:", "anycast", "ff00::/8", "up0@"];
    lines.retain(|line| !own.iter().any(|word| line.contains(word)));
    lines.sort();
    lines
}

/// Tells only what differs.
#[track_caller]
fn assert_as(before: &[String]) {
    let after = everything();
    let more: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    let less: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    assert!(more.is_empty() && less.is_empty(), "more: {more:#?}, less: {less:#?}");
}

fn many(instance: &str) -> Networks {
    let pool = AddressPool { base: "10.0.0.0/8".parse().unwrap(), size: 24 };
    Networks::new(NetworkConfig { pools: vec![pool], ..config(instance) }).unwrap()
}

#[test]
fn a_thousand_containers_come_and_go_without_a_trace() {
    in_a_world(|world| {
        world.network("net");
        // The first one makes what stays.
        let first = world.container("net");
        world.networks.detach(&first.record.id).unwrap();
        drop(first);
        world.networks.settle();
        let before = everything();
        let mut rounds = Vec::new();
        for _ in 0..10 {
            let began = Instant::now();
            for turn in 0..100 {
                let one = world.container("net");
                if turn % 10 == 0 {
                    world.publish(&one, &[tcp(0, 80)]).unwrap();
                }
                world.networks.detach(&one.record.id).unwrap();
            }
            world.networks.settle();
            rounds.push(began.elapsed());
        }
        println!("100 containers come and go: {:?} at first, {:?} at last", rounds[0], rounds[9]);
        assert_as(&before);
        assert_eq!(address(&world.container("net")).to_string(), "172.17.0.2", "no address is lost");
    });
}

#[test]
fn two_hundred_networks_outlive_the_engine_and_go_without_a_trace() {
    in_a_world(|_| {
        let before = everything();
        let networks = many("many");
        let spec = |number: usize| NetworkSpec {
            id: format!("{number:064x}"),
            name: format!("net{number}"),
            link: Some(format!("many{number}")),
            ..NetworkSpec::default()
        };
        let mut records = Vec::new();
        let began = Instant::now();
        for number in 0..200 {
            records.push(networks.create(&spec(number)).unwrap());
        }
        println!("200 networks are made in {:?}", began.elapsed());
        let attach = |networks: &Networks, number: usize| {
            let network = format!("{number:064x}");
            networks.attach(AttachSpec { network, ..AttachSpec::default() }).unwrap()
        };
        let (kept, lost) = (attach(&networks, 7), attach(&networks, 8));
        // The engine is killed: nothing is tidied up.
        std::mem::forget(networks);
        let again = many("many");
        for (number, record) in records.iter().enumerate() {
            let subnets = record.subnets.iter().map(|known| network::SubnetSpec::of(known.subnet)).collect();
            assert_eq!(&again.create(&NetworkSpec { subnets, ..spec(number) }).unwrap(), record);
        }
        again.recover(std::slice::from_ref(&kept.record)).unwrap();
        assert!(!run("ip -br link").contains(&lost.record.host_link), "what no record knows is removed");
        again.detach(&kept.record.id).unwrap();
        for record in &records {
            again.remove(&record.id).unwrap();
        }
        again.close().unwrap();
        assert_as(&before);
    });
}
