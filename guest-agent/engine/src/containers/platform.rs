//! What Linux, or this engine, does not do of all that a container may ask for: refused or warned of, never dropped
//! in silence.

use super::spec::HostConfig;
use crate::error::{Error, Result};

/// Sysctls that belong to the IPC namespace.
const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Refuses what can't be honoured; returns warnings for what may be left out.
pub(super) fn check(host: &HostConfig) -> Result<Vec<String>> {
    for name in host.sysctls.iter().flatten().map(|(name, _)| name) {
        sysctl(name, host)?;
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Error::invalid(format_args!("invalid isolation '{}' on linux", host.isolation)));
    }
    if host.storage_opt.as_ref().is_some_and(|options| !options.is_empty()) {
        return Err(Error::invalid(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        ));
    }
    if host.cpu_realtime_period != 0 || host.cpu_realtime_runtime != 0 {
        return Err(Error::invalid("Your kernel does not support CPU real-time scheduler"));
    }
    let throttled = [
        &host.blkio_device_read_bps,
        &host.blkio_device_write_bps,
        &host.blkio_device_read_iops,
        &host.blkio_device_write_iops,
    ];
    let throttled = throttled.into_iter().flat_map(|list| list.iter().flatten()).map(|device| &device.path);
    let weighted = host.blkio_weight_device.iter().flatten().map(|device| &device.path);
    for path in throttled.chain(weighted) {
        if rustix::fs::stat(path.as_str()).is_err() {
            return Err(Error::invalid(format_args!("stat {path}: no such file or directory")));
        }
    }
    for line in host.extra_hosts.iter().flatten() {
        if line.split_once([':', '=']).is_none_or(|(name, address)| name.is_empty() || address.is_empty()) {
            return Err(Error::invalid(format_args!("bad format for add-host: \"{line}\"")));
        }
    }
    let mut warnings = Vec::new();
    if host.kernel_memory_tcp != 0 {
        warnings.push(
            "Your kernel does not support kernel memory TCP limit capabilities or the cgroup is not mounted. Limitation discarded."
                .to_owned(),
        );
    }
    if !host.cgroup_parent.is_empty() {
        warnings.push("A cgroup parent is not supported by this engine. CgroupParent discarded.".to_owned());
    }
    if !host.cgroup.is_empty() {
        warnings.push("The option Cgroup is obsolete. Cgroup discarded.".to_owned());
    }
    for option in host.security_opt.iter().flatten() {
        if option.starts_with("writable-cgroups") {
            warnings.push("Writable cgroups are not supported by this engine. Option discarded.".to_owned());
        }
    }
    Ok(warnings)
}

/// A sysctl that isn't the container's own would be changed for the whole machine.
fn sysctl(name: &str, host: &HostConfig) -> Result<()> {
    let dotted = name.replace('/', ".");
    let apart = |mode: &str| mode != "host";
    let own = if OF_IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        apart(&host.ipc_mode)
    } else if dotted.starts_with("net.") {
        apart(&host.network_mode)
    } else {
        dotted == "kernel.domainname" && apart(&host.uts_mode)
    };
    match own {
        // Nothing of a path may lead elsewhere.
        true if !name.contains("..") => Ok(()),
        _ => Err(Error::invalid(format_args!("sysctl \"{name}\" is not in a separate kernel namespace"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_sysctl(name: &str, network: &str) -> Result<Vec<String>> {
        check(&HostConfig {
            sysctls: Some([(name.to_owned(), "1".to_owned())].into()),
            network_mode: network.to_owned(),
            ..HostConfig::default()
        })
    }

    #[test]
    fn only_the_container_s_own_sysctls_are_set() {
        assert!(with_sysctl("net.ipv4.ip_forward", "bridge").is_ok());
        assert!(with_sysctl("net/ipv6/conf/all/disable_ipv6", "bridge").is_ok());
        assert!(with_sysctl("kernel.shmmax", "bridge").is_ok());
        for (name, network) in [
            ("net.ipv4.ip_forward", "host"),
            ("kernel.core_pattern", "bridge"),
            ("vm.swappiness", "bridge"),
            ("net/../kernel/core_pattern", "bridge"),
        ] {
            let message = with_sysctl(name, network).unwrap_err().message;
            assert_eq!(message, format!("sysctl \"{name}\" is not in a separate kernel namespace"));
        }
    }

    #[test]
    fn what_is_left_out_is_said() {
        let host =
            HostConfig { cgroup_parent: "/mine".into(), kernel_memory_tcp: 1, ..HostConfig::default() };
        assert_eq!(check(&host).unwrap().len(), 2);
        let host = HostConfig { isolation: "hyperv".into(), ..HostConfig::default() };
        assert_eq!(check(&host).unwrap_err().message, "invalid isolation 'hyperv' on linux");
    }
}
