//! What this machine's kernel can do, and what the user has to be told that it cannot.

use std::path::{Path, PathBuf};

use crate::plan::Resources;

/// Facts that do not change while the engine runs.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// The cgroup controllers that containers get.
    pub controllers: Vec<String>,
    /// Where the version 2 hierarchy is mounted.
    pub cgroup_root: Option<PathBuf>,
    /// Whether access to devices can be restricted (an eBPF program on the cgroup).
    pub device_filter: bool,
    /// Whether swap is counted.
    pub swap_limit: bool,
    /// Whether system calls can be filtered.
    pub seccomp: bool,
    /// Whether user namespaces can be made.
    pub userns: bool,
    /// The kernel's release.
    pub kernel: String,
}

impl HostFacts {
    pub(crate) fn gather(hierarchy: Option<&crate::cgroup::Hierarchy>, device_filter: bool) -> HostFacts {
        let controllers = hierarchy.map(|hierarchy| hierarchy.controllers.clone()).unwrap_or_default();
        HostFacts {
            swap_limit: controllers.iter().any(|name| name == "memory") && Path::new("/proc/swaps").exists(),
            controllers,
            cgroup_root: hierarchy.map(|hierarchy| hierarchy.mount.clone()),
            device_filter,
            seccomp: sys::seccomp::supported(),
            userns: Path::new("/proc/self/ns/user").exists(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }

    /// Whether this controller is there.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    /// The limits that are asked for and will not be enforced, in dockerd's words (for the answer to create).
    pub fn limit_warnings(&self, resources: &Resources) -> Vec<String> {
        let set = |value: Option<i64>| value.is_some_and(|value| value > 0);
        let words = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
        let throttled =
            [&resources.read_bps, &resources.write_bps, &resources.read_iops, &resources.write_iops];
        let checks = [
            (
                "memory",
                set(resources.memory),
                "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
            ),
            (
                "memory",
                set(resources.memory_reservation),
                "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
            ),
            (
                "cpu",
                resources.cpu_shares.is_some_and(|shares| shares > 0),
                "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
            ),
            (
                "cpu",
                set(resources.cpu_quota) || resources.cpu_period.is_some_and(|period| period > 0),
                "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
            ),
            (
                "cpuset",
                words(&resources.cpuset_cpus) || words(&resources.cpuset_mems),
                "Your kernel does not support cpuset or the cgroup is not mounted. CPUset discarded.",
            ),
            (
                "pids",
                set(resources.pids),
                "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
            ),
            (
                "io",
                resources.io_weight.is_some_and(|weight| weight > 0)
                    || !resources.io_weight_devices.is_empty(),
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
            ),
            (
                "io",
                throttled.iter().any(|limits| !limits.is_empty()),
                "Your kernel does not support Block I/O limits or the cgroup is not mounted. Limits discarded.",
            ),
        ];
        let mut warnings: Vec<String> = checks
            .into_iter()
            .filter(|(controller, wanted, _)| *wanted && !self.has(controller))
            .map(|(_, _, warning)| warning.to_owned())
            .collect();
        if set(resources.memory) && self.has("memory") && set(resources.memory_swap) && !self.swap_limit {
            warnings.push(
                "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
                    .to_owned(),
            );
        }
        warnings
    }

    /// What `docker info` lists under WARNING.
    pub fn info_warnings(&self) -> Vec<String> {
        let checks = [
            (self.has("memory"), "WARNING: No memory limit support"),
            (self.swap_limit, "WARNING: No swap limit support"),
            (self.has("cpu"), "WARNING: No cpu cfs quota support"),
            (self.has("cpu"), "WARNING: No cpu cfs period support"),
            (self.has("cpu"), "WARNING: No cpu shares support"),
            (self.has("cpuset"), "WARNING: No cpuset support"),
            (self.has("pids"), "WARNING: No pids limit support"),
            (self.has("io"), "WARNING: No io.weight support"),
            (self.has("io"), "WARNING: No io.max support"),
            (self.device_filter, "WARNING: No device cgroup support"),
        ];
        checks.into_iter().filter(|(there, _)| !there).map(|(_, warning)| warning.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(controllers: &[&str]) -> HostFacts {
        HostFacts {
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            cgroup_root: None,
            device_filter: true,
            swap_limit: false,
            seccomp: true,
            userns: true,
            kernel: String::new(),
        }
    }

    #[test]
    fn only_limits_that_are_asked_for_and_missing_are_warned_of() {
        let resources = Resources {
            memory: Some(1 << 20),
            pids: Some(-1),
            cpu_shares: Some(512),
            ..Resources::default()
        };
        assert!(host(&["memory", "cpu"]).limit_warnings(&resources).is_empty());
        let warnings = host(&["cpu"]).limit_warnings(&resources);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("memory limit"));
    }
}
