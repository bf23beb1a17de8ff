//! `docker update`: new limits and a new restart policy for a container that is there already.

use serde::Serialize;

use super::check;
use super::restart;
use super::spec::HostConfig;
use crate::error::{Error, Result};

/// The answer to `POST /containers/{name}/update`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Updated {
    /// What can't be honoured, a sentence each.
    pub warnings: Vec<String>,
}

/// The host's half with what `asked` says. Zero means: leave it as it is.
pub(crate) fn merge(own: &HostConfig, asked: &HostConfig, cpus: usize) -> Result<HostConfig> {
    check::limits(asked, cpus)?;
    let mut new = own.clone();
    if !asked.restart_policy.name.is_empty() {
        if own.auto_remove && asked.restart_policy.name != "no" {
            return Err(Error::conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        restart::check(&asked.restart_policy, own.auto_remove)?;
        new.restart_policy = asked.restart_policy.clone();
    }
    conflicts(own, asked)?;
    for (mine, theirs) in [
        (&mut new.cpu_shares, asked.cpu_shares),
        (&mut new.nano_cpus, asked.nano_cpus),
        (&mut new.cpu_period, asked.cpu_period),
        (&mut new.cpu_quota, asked.cpu_quota),
        (&mut new.cpu_realtime_period, asked.cpu_realtime_period),
        (&mut new.cpu_realtime_runtime, asked.cpu_realtime_runtime),
        (&mut new.memory, asked.memory),
        (&mut new.memory_swap, asked.memory_swap),
        (&mut new.memory_reservation, asked.memory_reservation),
    ] {
        if theirs != 0 {
            *mine = theirs;
        }
    }
    for (mine, theirs) in
        [(&mut new.cpuset_cpus, &asked.cpuset_cpus), (&mut new.cpuset_mems, &asked.cpuset_mems)]
    {
        if !theirs.is_empty() {
            mine.clone_from(theirs);
        }
    }
    if asked.blkio_weight != 0 {
        new.blkio_weight = asked.blkio_weight;
    }
    if asked.pids_limit.is_some() {
        new.pids_limit = asked.pids_limit;
    }
    Ok(new)
}

/// New limits that contradict those which stay.
fn conflicts(own: &HostConfig, asked: &HostConfig) -> Result<()> {
    let refuse = |message: &str| Err(Error::conflict(message));
    if own.memory_swap > 0 && asked.memory_swap == 0 && asked.memory > own.memory_swap {
        return refuse(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        );
    }
    if asked.nano_cpus > 0 && own.cpu_period > 0 {
        return refuse("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set");
    }
    if asked.nano_cpus > 0 && own.cpu_quota > 0 {
        return refuse("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set");
    }
    if asked.cpu_quota > 0 && own.nano_cpus > 0 {
        return refuse("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set");
    }
    if asked.cpu_period > 0 && own.nano_cpus > 0 {
        return refuse("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::spec::RestartPolicy;

    fn limited() -> HostConfig {
        HostConfig { memory: 64 << 20, memory_swap: 128 << 20, ..HostConfig::default() }
    }

    #[test]
    fn what_is_not_said_stays() {
        let asked = HostConfig { memory: 100 << 20, cpu_shares: 512, ..HostConfig::default() };
        let new = merge(&limited(), &asked, 2).unwrap();
        assert_eq!((new.memory, new.memory_swap, new.cpu_shares), (100 << 20, 128 << 20, 512));
        assert_eq!(merge(&new, &HostConfig::default(), 2).unwrap(), new);
    }

    #[test]
    fn contradictions_are_refused() {
        let asked = HostConfig { memory: 256 << 20, ..HostConfig::default() };
        let error = merge(&limited(), &asked, 2).unwrap_err();
        assert!(error.message.starts_with("Memory limit should be smaller than already set memoryswap"));
        let quota = HostConfig { cpu_quota: 50_000, ..HostConfig::default() };
        let cpus = HostConfig { nano_cpus: 1_000_000_000, ..HostConfig::default() };
        assert!(merge(&quota, &cpus, 2).unwrap_err().message.contains("CPU Quota has already been set"));
        assert!(merge(&cpus, &quota, 2).unwrap_err().message.contains("NanoCPUs has already been set"));
        let temporary = HostConfig { auto_remove: true, ..HostConfig::default() };
        let always = RestartPolicy { name: "always".into(), ..RestartPolicy::default() };
        let asked = HostConfig { restart_policy: always, ..HostConfig::default() };
        assert!(merge(&temporary, &asked, 2).unwrap_err().message.contains("AutoRemove is enabled"));
    }
}
