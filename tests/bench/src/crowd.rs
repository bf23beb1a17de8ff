//! Many containers: how fast they come, what each one holds, and what they cost while nothing happens.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use harness::{Engine, fixtures};

use crate::{
    http::Client,
    memory,
    peer::Dockerd,
    report::{Report, Times},
    verbs::create,
};

/// Started at once.
const AT_ONCE: usize = 100;
/// By so many connections.
const CLIENTS: usize = 10;
/// Idle in the end.
const IDLE: usize = 1000;
/// Long enough that a timer of some seconds would show.
const WATCHED: Duration = Duration::from_secs(10);

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let engine = Engine::start();
    engine.load(&fixtures::busybox());
    let pid = engine.engine_pid().context("the engine has no process")?;
    let rest = memory::total(&engine)?;
    let mut ours = Times::default();
    ours.add(start_many(&engine.socket(), AT_ONCE)?);
    {
        let peer = Dockerd::start()?;
        peer.load(&fixtures::busybox());
        let mut theirs = Times::default();
        theirs.add(start_many(&peer.socket(), AT_ONCE)?);
        report.compare("100 containers started at once", &ours, "dockerd", &theirs);
    }
    let before = switches(pid)?;
    thread::sleep(WATCHED);
    let each_second = (switches(pid)? - before) as f64 / WATCHED.as_secs_f64();
    report.figure("engine's context switches, 100 idle", &format!("{each_second:.1} a second"));
    let first = ours.percentile(50) / u32::try_from(AT_ONCE)?;
    let rest_of_them = IDLE - AT_ONCE;
    start_many(&engine.socket(), rest_of_them - AT_ONCE)?;
    let last = start_many(&engine.socket(), AT_ONCE)? / u32::try_from(AT_ONCE)?;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let text = format!("first 100: {:.2} ms each, last 100: {:.2} ms each", millis(first), millis(last));
    report.figure("1,000 idle containers, a start", &text);
    let idle = memory::total(&engine)?.saturating_sub(rest) / u64::try_from(IDLE)?;
    report.figure("1,000 idle containers, engine's memory", &format!("{idle} kB each (PSS)"));
    Ok(())
}

/// Creates and starts containers that sleep, over several connections; returns the time for the starts alone.
fn start_many(socket: &Path, count: usize) -> anyhow::Result<Duration> {
    let mut client = Client::connect(socket)?;
    let ids = (0..count)
        .map(|_| create(&mut client, &["sleep", "100000"]))
        .collect::<anyhow::Result<Vec<String>>>()?;
    let began = Instant::now();
    thread::scope(|scope| {
        let starters: Vec<_> = ids
            .chunks(ids.len().div_ceil(CLIENTS).max(1))
            .map(|ids| {
                scope.spawn(move || {
                    let mut client = Client::connect(socket)?;
                    ids.iter().try_for_each(|id| {
                        client.call("POST", &format!("/v1.41/containers/{id}/start"), "").map(drop)
                    })
                })
            })
            .collect();
        starters
            .into_iter()
            .try_for_each(|starter| starter.join().map_err(|_| anyhow!("a starter broke off"))?)
    })?;
    Ok(began.elapsed())
}

/// Context switches of all of a process's threads since they began (proc(5), status).
fn switches(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(text) = fs::read_to_string(task?.path().join("status")) else { continue };
        let counts = text.lines().filter_map(|line| line.split_once("ctxt_switches:"));
        sum += counts.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum::<u64>();
    }
    Ok(sum)
}
