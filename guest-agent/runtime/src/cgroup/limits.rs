//! Docker's limits in version 2's terms.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::plan::{DeviceLimit, Resources};

/// Writes the limits that are said and whose controller is there.
pub(super) fn apply(
    cgroup: &Path,
    controllers: &[String],
    resources: &Resources,
) -> Result<(), (PathBuf, io::Error)> {
    let has = |name: &str| controllers.iter().any(|controller| controller == name);
    let write = |name: &str, value: &dyn Display| {
        let path = cgroup.join(name);
        fs::write(&path, value.to_string()).map_err(|error| (path, error))
    };
    if has("memory") {
        apply_memory(resources, &write, cgroup.join("memory.swap.max").exists())?;
    }
    if has("cpu") {
        if let Some(shares) = resources.cpu_shares.filter(|shares| *shares != 0) {
            write("cpu.weight", &weight_of_shares(shares))?;
        }
        if let Some(value) = cpu_max(resources.cpu_quota, resources.cpu_period) {
            write("cpu.max", &value)?;
        }
    }
    if has("cpuset") {
        for (name, value) in
            [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)]
        {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                write(name, value)?;
            }
        }
    }
    if has("pids")
        && let Some(pids) = resources.pids
    {
        write("pids.max", &limit(if pids == 0 { -1 } else { pids }))?;
    }
    if has("io") {
        apply_io(resources, &write, cgroup)?;
    }
    Ok(())
}

type Write<'a> = dyn Fn(&str, &dyn Display) -> Result<(), (PathBuf, io::Error)> + 'a;

fn apply_memory(resources: &Resources, write: &Write<'_>, swap: bool) -> Result<(), (PathBuf, io::Error)> {
    if let Some(memory) = resources.memory.filter(|memory| *memory != 0) {
        write("memory.max", &limit(memory))?;
    }
    // The kernel may count no swap; the engine has warned then.
    if swap && let Some(value) = swap_max(resources.memory, resources.memory_swap) {
        write("memory.swap.max", &value)?;
    }
    if let Some(reservation) = resources.memory_reservation.filter(|reservation| *reservation != 0) {
        write("memory.low", &limit(reservation))?;
    }
    Ok(())
}

fn apply_io(resources: &Resources, write: &Write<'_>, cgroup: &Path) -> Result<(), (PathBuf, io::Error)> {
    // io.weight is there only when the iocost or BFQ policy is.
    if cgroup.join("io.weight").exists() {
        if let Some(weight) = resources.io_weight.filter(|weight| *weight != 0) {
            write("io.weight", &format!("default {}", weight_of_io(weight.into())))?;
        }
        for DeviceLimit { major, minor, value } in &resources.io_weight_devices {
            write("io.weight", &format!("{major}:{minor} {}", weight_of_io(*value)))?;
        }
    }
    let throttles = [
        ("rbps", &resources.read_bps),
        ("wbps", &resources.write_bps),
        ("riops", &resources.read_iops),
        ("wiops", &resources.write_iops),
    ];
    for (name, limits) in throttles {
        for DeviceLimit { major, minor, value } in limits {
            write("io.max", &format!("{major}:{minor} {name}={value}"))?;
        }
    }
    Ok(())
}

fn limit(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// Version 2 counts swap alone, Docker memory and swap together.
fn swap_max(memory: Option<i64>, both: Option<i64>) -> Option<String> {
    match (memory, both?) {
        (_, 0) => None,
        (_, both) if both < 0 => Some("max".to_owned()),
        (Some(memory), both) if memory > 0 => Some(limit((both - memory).max(0))),
        _ => None,
    }
}

fn cpu_max(quota: Option<i64>, period: Option<u64>) -> Option<String> {
    let period = period.filter(|period| *period != 0);
    match (quota.filter(|quota| *quota != 0), period) {
        (None, None) => None,
        (Some(quota), None) => Some(limit(quota)),
        (quota, Some(period)) => Some(format!("{} {period}", limit(quota.unwrap_or(-1)))),
    }
}

/// Maps version 1's 2…262144 to version 2's 1…10000, as the OCI runtime specification has it.
fn weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

/// Maps version 1's 10…1000 to version 2's 1…10000.
fn weight_of_io(weight: u64) -> u64 {
    1 + (weight.clamp(10, 1000) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(resources: &Resources, controllers: &[&str], file: &str) -> Option<String> {
        let cgroup = tempfile::tempdir().unwrap();
        for name in ["memory.swap.max", "io.weight"] {
            fs::write(cgroup.path().join(name), "").unwrap();
        }
        let controllers: Vec<String> = controllers.iter().map(|name| (*name).to_owned()).collect();
        apply(cgroup.path(), &controllers, resources).unwrap();
        fs::read_to_string(cgroup.path().join(file)).ok()
    }

    #[test]
    fn no_pids_limit_is_written_as_max() {
        for pids in [-1, 0] {
            let resources = Resources { pids: Some(pids), ..Resources::default() };
            assert_eq!(written(&resources, &["pids"], "pids.max").as_deref(), Some("max"));
        }
    }

    #[test]
    fn swap_is_what_docker_counts_beyond_memory() {
        let resources =
            Resources { memory: Some(100 << 20), memory_swap: Some(150 << 20), ..Resources::default() };
        assert_eq!(written(&resources, &["memory"], "memory.max").as_deref(), Some("104857600"));
        assert_eq!(written(&resources, &["memory"], "memory.swap.max").as_deref(), Some("52428800"));
    }

    #[test]
    fn a_missing_controller_is_not_written_to() {
        let resources = Resources { pids: Some(5), ..Resources::default() };
        assert_eq!(written(&resources, &["memory"], "pids.max"), None);
    }

    #[test]
    fn a_quota_without_a_period_keeps_the_kernels_period() {
        assert_eq!(cpu_max(Some(50_000), None).as_deref(), Some("50000"));
        assert_eq!(cpu_max(Some(50_000), Some(100_000)).as_deref(), Some("50000 100000"));
        assert_eq!(cpu_max(None, Some(100_000)).as_deref(), Some("max 100000"));
        assert_eq!(cpu_max(None, None), None);
    }

    #[test]
    fn normal_shares_are_near_the_normal_weight() {
        assert_eq!((weight_of_shares(2), weight_of_shares(1024), weight_of_shares(262_144)), (1, 39, 10_000));
        assert_eq!((weight_of_io(10), weight_of_io(1000)), (1, 10_000));
    }
}
