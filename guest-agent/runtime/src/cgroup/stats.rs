//! What a cgroup uses.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// What a cgroup uses at one moment. A part is `None` where its controller is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time; always counted.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes.
    pub pids: Option<PidStats>,
    /// Input and output, by device.
    pub io: Vec<DeviceIo>,
}

/// Processor time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// In all, in microseconds.
    pub usage_usec: u64,
    /// In programs.
    pub user_usec: u64,
    /// In the kernel.
    pub system_usec: u64,
    /// Periods in which a quota was in force.
    pub periods: u64,
    /// Those in which it was used up.
    pub throttled_periods: u64,
    /// For how long it had to wait then.
    pub throttled_usec: u64,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Bytes in use, page cache included.
    pub usage: u64,
    /// The limit; `None` is no limit.
    pub limit: Option<u64>,
    /// The most that was in use.
    pub peak: Option<u64>,
    /// Bytes of swap in use.
    pub swap_usage: Option<u64>,
    /// How often it was out of memory.
    pub ooms: u64,
    /// `memory.stat` as it is.
    pub details: BTreeMap<String, u64>,
}

/// Processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be; `None` is no limit.
    pub limit: Option<u64>,
}

/// Input and output of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

pub(super) fn read(cgroup: &Path) -> io::Result<Stats> {
    let cpu = pairs(&fs::read_to_string(cgroup.join("cpu.stat"))?);
    let cpu_value = |name: &str| cpu.get(name).copied().unwrap_or(0);
    Ok(Stats {
        cpu: CpuStats {
            usage_usec: cpu_value("usage_usec"),
            user_usec: cpu_value("user_usec"),
            system_usec: cpu_value("system_usec"),
            periods: cpu_value("nr_periods"),
            throttled_periods: cpu_value("nr_throttled"),
            throttled_usec: cpu_value("throttled_usec"),
        },
        memory: memory(cgroup)?,
        pids: number(cgroup, "pids.current")?
            .map(|current| Ok::<_, io::Error>(PidStats { current, limit: number(cgroup, "pids.max")? }))
            .transpose()?,
        io: text(cgroup, "io.stat")?.as_deref().map(devices).unwrap_or_default(),
    })
}

pub(super) fn oom_kills(cgroup: &Path) -> io::Result<u64> {
    let events = text(cgroup, "memory.events")?.unwrap_or_default();
    Ok(pairs(&events).get("oom_kill").copied().unwrap_or(0))
}

fn memory(cgroup: &Path) -> io::Result<Option<MemoryStats>> {
    let Some(usage) = number(cgroup, "memory.current")? else { return Ok(None) };
    let events = pairs(&text(cgroup, "memory.events")?.unwrap_or_default());
    Ok(Some(MemoryStats {
        usage,
        limit: number(cgroup, "memory.max")?,
        peak: number(cgroup, "memory.peak")?,
        swap_usage: number(cgroup, "memory.swap.current")?,
        ooms: events.get("oom").copied().unwrap_or(0),
        details: pairs(&text(cgroup, "memory.stat")?.unwrap_or_default()),
    }))
}

fn text(cgroup: &Path, name: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(cgroup.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file of one number; `None` for a missing file and for `max`.
fn number(cgroup: &Path, name: &str) -> io::Result<Option<u64>> {
    Ok(text(cgroup, name)?.and_then(|text| text.trim().parse().ok()))
}

fn pairs(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

fn devices(text: &str) -> Vec<DeviceIo> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (major, minor) = words.next()?.split_once(':')?;
            let mut device =
                DeviceIo { major: major.parse().ok()?, minor: minor.parse().ok()?, ..DeviceIo::default() };
            for (name, value) in words.filter_map(|word| word.split_once('=')) {
                let field = match name {
                    "rbytes" => &mut device.read_bytes,
                    "wbytes" => &mut device.write_bytes,
                    "rios" => &mut device.reads,
                    "wios" => &mut device.writes,
                    _ => continue,
                };
                *field = value.parse().unwrap_or(0);
            }
            Some(device)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_controllers_leave_their_part_out() {
        let cgroup = tempfile::tempdir().unwrap();
        fs::write(cgroup.path().join("cpu.stat"), "usage_usec 7\nuser_usec 4\nsystem_usec 3\n").unwrap();
        let stats = read(cgroup.path()).unwrap();
        assert_eq!(stats.cpu.usage_usec, 7);
        assert_eq!((stats.memory, stats.pids, stats.io.len()), (None, None, 0));
        assert_eq!(oom_kills(cgroup.path()).unwrap(), 0);
    }

    #[test]
    fn no_limit_is_none() {
        let cgroup = tempfile::tempdir().unwrap();
        for (name, value) in [
            ("cpu.stat", ""),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 12\nfile 30\n"),
            ("memory.events", "low 0\noom 2\noom_kill 1\n"),
            ("pids.current", "3\n"),
            ("pids.max", "10\n"),
            ("io.stat", "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"),
        ] {
            fs::write(cgroup.path().join(name), value).unwrap();
        }
        let stats = read(cgroup.path()).unwrap();
        let memory = stats.memory.unwrap();
        assert_eq!((memory.usage, memory.limit, memory.ooms, memory.details["file"]), (4096, None, 2, 30));
        assert_eq!(stats.pids, Some(PidStats { current: 3, limit: Some(10) }));
        assert_eq!(
            stats.io,
            [DeviceIo { major: 254, minor: 0, read_bytes: 10, write_bytes: 20, reads: 1, writes: 2 }]
        );
        assert_eq!(oom_kills(cgroup.path()).unwrap(), 1);
    }
}
