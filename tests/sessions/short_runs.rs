//! A CI server's day: many short containers, several at a time.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use harness::{Engine, require};

#[test]
fn two_hundred_short_runs_eight_at_a_time_all_end_well_and_leave_nothing() {
    const RUNS: usize = 200;
    require!(Engine::with_busybox_available());
    let engine = Engine::with_busybox();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= RUNS {
                        break;
                    }
                    let code = i32::try_from(number % 5).unwrap();
                    let script = format!("echo {number}; exit {code}");
                    let run = engine.docker(["run", "--rm", "busybox", "sh", "-c", &script]).exits(code);
                    assert_eq!(run.line(), number.to_string());
                }
            });
        }
    });
    assert_eq!(engine.docker(["ps", "--all", "--quiet"]).success().stdout(), "");
    let links = engine.sandbox().command("ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    assert!(!links.contains("veth"), "{links}");
    assert_eq!(links.lines().count(), 2, "the loopback and the bridge: {links}");
}
