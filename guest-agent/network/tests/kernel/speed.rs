//! Figures, printed; the bounds are loose enough for a busy machine and tight enough to catch a wrong shape.

use std::time::{Duration, Instant};

use crate::world::*;

/// What it takes when nothing else is in the way: other programs' load is not this code's shape.
fn undisturbed(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 10]
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn attaching_stays_flat() {
    in_a_world(|world| {
        world.network("net");
        let mut times = Vec::new();
        let mut live = Vec::new();
        for _ in 0..200 {
            let start = Instant::now();
            live.push(world.container("net"));
            times.push(start.elapsed());
        }
        let (first, last) = (median(times[..50].to_vec()), median(times[150..].to_vec()));
        let quickest = times.iter().min();
        let detach: Vec<_> = live
            .drain(..)
            .map(|endpoint| {
                let start = Instant::now();
                world.networks.detach(&endpoint.record.id).unwrap();
                start.elapsed()
            })
            .collect();
        println!(
            "attach: {quickest:?} quickest, {first:?} median of the first 50, {last:?} of the last 50 of 200; detach {:?}",
            median(detach)
        );
        let (first, last) = (undisturbed(times[..50].to_vec()), undisturbed(times[150..].to_vec()));
        assert!(last < first * 4 + Duration::from_millis(2), "{first:?} {last:?}");
    });
}

#[test]
fn the_five_hundredth_port_costs_what_the_first_did() {
    in_a_world(|world| {
        world.network("net");
        let web = world.container("net");
        let mut times = Vec::new();
        for port in 0..500 {
            let start = Instant::now();
            world.publish(&web, &[tcp(10_000 + port, 80)]).unwrap();
            times.push(start.elapsed());
        }
        let (first, last) = (median(times[..50].to_vec()), median(times[450..].to_vec()));
        println!("publish: {first:?} median of the first 50, {last:?} of the last 50 of 500");
        let (first, last) = (undisturbed(times[..50].to_vec()), undisturbed(times[450..].to_vec()));
        assert!(last < first * 4 + Duration::from_millis(1), "{first:?} {last:?}");
    });
}
