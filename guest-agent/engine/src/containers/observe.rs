//! Looking at a running container: its processes and what it uses.

use std::fs;
use std::time::Duration;

use runtime::{Cgroup, CgroupStats};
use serde_json::{Value, json};

use super::container::Container;
use super::request::BoxStream;
use super::view::Top;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::time::Time;

/// Kernel ticks per second in /proc; the ABI fixes it.
const TICKS: u64 = 100;

/// `GET /containers/{name}/top`: what `ps` would say, of which the columns of `-ef` and `aux` are known.
pub(crate) async fn top(engine: &Engine, name: &str, arguments: &str) -> Result<Top> {
    let container = engine.inner().registry.get(name)?;
    let Some(process) = container.process() else {
        return Err(Error::conflict(format_args!("container {} is not running", container.id)));
    };
    let cgroup = engine.inner().runtime.cgroup(&container.id);
    let first = process.pid();
    let aux = arguments.trim_start_matches('-').starts_with("au");
    let rows = tokio::task::spawn_blocking(move || {
        let mut pids = cgroup.pids().unwrap_or_default();
        if !pids.contains(&first) {
            pids.push(first);
        }
        let boot = boot_time();
        pids.sort_unstable();
        pids.into_iter().filter_map(|pid| row(pid, aux, boot)).collect()
    });
    let processes = rows.await.map_err(Error::system)?;
    let titles: &[&str] = if aux {
        &["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"]
    } else {
        &["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    };
    container.note("top", Vec::new()).await;
    Ok(Top { titles: titles.iter().map(|title| (*title).to_owned()).collect(), processes })
}

fn boot_time() -> i64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn row(pid: i32, aux: bool, boot: i64) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything; what follows the last one is regular.
    let (head, tail) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let (parent, terminal) = (number(1), number(4));
    let ticks = number(11) + number(12);
    let started = boot + i64::try_from(number(19) / TICKS).unwrap_or(0);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))?
        .split_ascii_whitespace()
        .next()?
        .to_owned();
    let user = if uid == "0" { "root".to_owned() } else { uid };
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
    let command = if command.is_empty() { format!("[{}]", head.split_once('(')?.1) } else { command };
    let seconds = ticks / TICKS;
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let terminal = match terminal {
        0 => "?".to_owned(),
        number => format!("pts/{}", number & 0xff),
    };
    let clock = Time::from_unix_nanos(started.saturating_mul(1_000_000_000)).to_string();
    let start = clock.get(11..16).unwrap_or("00:00").to_owned();
    let lived = (Time::now().unix() - started).max(1).unsigned_abs();
    let share = seconds * 100 / lived;
    if !aux {
        return Some(vec![
            user,
            pid.to_string(),
            parent.to_string(),
            share.to_string(),
            start,
            terminal,
            time,
            command,
        ]);
    }
    let (size, resident) = (number(20) / 1024, number(21) * 4);
    Some(vec![
        user,
        pid.to_string(),
        format!("{share}.0"),
        "0.0".to_owned(),
        size.to_string(),
        resident.to_string(),
        terminal,
        fields.first().map(|state| (*state).to_owned()).unwrap_or_default(),
        start,
        format!("{}:{:02}", seconds / 60, seconds % 60),
        command,
    ])
}

/// `GET /containers/{name}/stats`
pub(crate) fn stats(engine: &Engine, name: &str, stream: bool, one_shot: bool) -> Result<BoxStream<Value>> {
    let container = engine.inner().registry.get(name)?;
    let watch = Watch {
        cgroup: engine.inner().runtime.cgroup(&container.id),
        container,
        cpus: engine.inner().cpus,
        before: None,
        // Without a sample before it a rate can't be told; `one-shot` asks to do without.
        silent: usize::from(!one_shot),
        left: if stream { usize::MAX } else { 1 },
        first: true,
    };
    Ok(Box::pin(futures_util::stream::unfold(watch, Watch::next)))
}

struct Watch {
    container: std::sync::Arc<Container>,
    cgroup: Cgroup,
    cpus: usize,
    before: Option<(Value, Time)>,
    silent: usize,
    left: usize,
    first: bool,
}

impl Watch {
    async fn next(mut self) -> Option<(Value, Watch)> {
        loop {
            if self.left == 0 {
                return None;
            }
            if !self.first {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            self.first = false;
            let record = self.container.now();
            if matches!(record.state, super::state::State::Removing) {
                return None;
            }
            let lives = record.state.lives();
            let read = if lives { Time::now() } else { Time::NEVER };
            let cgroup = self.cgroup.clone();
            let sample = tokio::task::spawn_blocking(move || cgroup.stats()).await.ok()?;
            let sample = if lives { sample.unwrap_or_default() } else { CgroupStats::default() };
            let process = self.container.process().filter(|_| lives).map(|process| process.pid());
            let cpu = cpu(&sample, self.cpus, lives);
            let (before, preread) =
                self.before.replace((cpu.clone(), read)).unwrap_or_else(|| (empty_cpu(), Time::NEVER));
            if self.silent > 0 && lives {
                self.silent -= 1;
                continue;
            }
            self.left -= 1;
            let mut value = json!({
                "name": format!("/{}", record.name),
                "id": record.id,
                "read": read,
                "preread": preread,
                "pids_stats": pids(&sample),
                "blkio_stats": blkio(&sample),
                "num_procs": 0,
                "storage_stats": {},
                "cpu_stats": cpu,
                "precpu_stats": before,
                "memory_stats": memory(&sample, lives),
            });
            if let (Some(pid), Some(object)) = (process, value.as_object_mut())
                && let Some(networks) = networks(pid, &record.host_config.network_mode)
            {
                object.insert("networks".into(), networks);
            }
            return Some((value, self));
        }
    }
}

fn empty_cpu() -> Value {
    json!({
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    })
}

fn cpu(sample: &CgroupStats, cpus: usize, lives: bool) -> Value {
    if !lives {
        return empty_cpu();
    }
    let cpu = &sample.cpu;
    json!({
        "cpu_usage": {
            "total_usage": cpu.usage_usec * 1000,
            "usage_in_kernelmode": cpu.system_usec * 1000,
            "usage_in_usermode": cpu.user_usec * 1000,
        },
        "system_cpu_usage": system_cpu(),
        "online_cpus": cpus,
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled_usec * 1000,
        },
    })
}

/// Nanoseconds that all CPUs together have spent, idle ones too.
fn system_cpu() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: u64 = stat
        .lines()
        .next()
        .into_iter()
        .flat_map(|line| line.split_ascii_whitespace().skip(1).take(8))
        .filter_map(|text| text.parse::<u64>().ok())
        .sum();
    ticks.saturating_mul(1_000_000_000 / TICKS)
}

fn pids(sample: &CgroupStats) -> Value {
    match &sample.pids {
        // dockerd prints the largest number where there is no limit.
        Some(pids) => json!({"current": pids.current, "limit": pids.limit.unwrap_or(u64::MAX)}),
        None => json!({}),
    }
}

fn memory(sample: &CgroupStats, lives: bool) -> Value {
    match &sample.memory {
        Some(memory) if lives => json!({
            "usage": memory.usage,
            "limit": memory.limit.unwrap_or_else(crate::info::memory_total),
            "stats": memory.details,
        }),
        _ => json!({}),
    }
}

fn blkio(sample: &CgroupStats) -> Value {
    let rows = |pick: fn(&runtime::DeviceIo) -> (u64, u64)| -> Vec<Value> {
        sample
            .io
            .iter()
            .flat_map(|device| {
                let (read, write) = pick(device);
                [("read", read), ("write", write)].map(|(op, value)| {
                    json!({"major": device.major, "minor": device.minor, "op": op, "value": value})
                })
            })
            .collect()
    };
    json!({
        "io_service_bytes_recursive": rows(|device| (device.read_bytes, device.write_bytes)),
        "io_serviced_recursive": rows(|device| (device.reads, device.writes)),
        "io_queue_recursive": null, "io_service_time_recursive": null, "io_wait_time_recursive": null,
        "io_merged_recursive": null, "io_time_recursive": null, "sectors_recursive": null,
    })
}

/// The counters of each interface, as the process sees them.
fn networks(pid: i32, mode: &str) -> Option<Value> {
    if mode == "host" {
        return None;
    }
    let table = fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    let mut networks = serde_json::Map::new();
    for line in table.lines().skip(2) {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> =
            counters.split_ascii_whitespace().filter_map(|text| text.parse().ok()).collect();
        if name.trim() == "lo" || counters.len() < 12 {
            continue;
        }
        networks.insert(
            name.trim().to_owned(),
            json!({
                "rx_bytes": counters[0], "rx_packets": counters[1], "rx_errors": counters[2], "rx_dropped": counters[3],
                "tx_bytes": counters[8], "tx_packets": counters[9], "tx_errors": counters[10], "tx_dropped": counters[11],
            }),
        );
    }
    (!networks.is_empty()).then_some(Value::Object(networks))
}
