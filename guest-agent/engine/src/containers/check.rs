//! What may be asked of a container: dockerd's checks and defaults, pure.

use std::collections::BTreeMap;

use runtime::Resources;

use super::record::command;
use super::restart;
use super::spec::{Config, Empty, Healthcheck, HostConfig, Words};
use crate::error::{Error, Result};
use crate::signal;

/// Docker's smallest memory limit.
const LEAST_MEMORY: i64 = 6 << 20;
/// /dev/shm by default.
const SHM_SIZE: i64 = 64 << 20;

/// What this machine and this engine give a container that doesn't say.
pub(crate) struct Defaults<'a> {
    pub(crate) cpus: usize,
    pub(crate) log_driver: &'a str,
    pub(crate) log_options: &'a BTreeMap<String, String>,
    pub(crate) shm_size: i64,
}

/// Takes from the image what the client left open.
pub(crate) fn merge_image(config: &mut Config, image: &image::ContainerConfig) -> Result<()> {
    let text = |own: &mut String, other: &Option<String>| {
        if own.is_empty() {
            own.clone_from(other.as_ref().unwrap_or(&String::new()));
        }
    };
    text(&mut config.user, &image.user);
    text(&mut config.working_dir, &image.working_dir);
    text(&mut config.stop_signal, &image.stop_signal);
    for port in image.exposed_ports.iter().flatten().map(|(port, _)| port) {
        config.exposed_ports.entry(port.clone()).or_insert(Empty {});
    }
    for (name, value) in image.labels.iter().flatten() {
        config.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if let Some(volumes) = &image.volumes {
        let own = config.volumes.get_or_insert_default();
        own.extend(volumes.keys().map(|path| (path.clone(), Empty {})));
    }
    let own = config.env.get_or_insert_default();
    let mut env: Vec<String> = Vec::new();
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    for pair in image.env.iter().flatten() {
        if !own.iter().any(|mine| name(mine) == name(pair)) {
            env.push(pair.clone());
        }
    }
    own.append(&mut env);
    let words = |list: &Option<Vec<String>>| list.clone().map(Words);
    let empty = |words: &Option<Words>| words.as_ref().is_none_or(|words| words.0.is_empty());
    if empty(&config.entrypoint) {
        if empty(&config.cmd) {
            config.cmd = words(&image.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint = words(&image.entrypoint);
        }
    }
    if config.entrypoint.as_ref().is_some_and(|words| words.0.len() == 1 && words.0[0].is_empty()) {
        config.entrypoint = None;
    }
    if config.shell.is_none() {
        config.shell = words(&image.shell);
    }
    merge_health(config, image);
    if command(config).is_empty() {
        return Err(Error::invalid("no command specified"));
    }
    Ok(())
}

fn merge_health(config: &mut Config, image: &image::ContainerConfig) {
    let Some(other) = &image.healthcheck else { return };
    let own = config.healthcheck.get_or_insert_with(Healthcheck::default);
    if own.test.as_ref().is_none_or(|test| test.0.is_empty()) {
        own.test = other.test.clone().map(Words);
    }
    for (mine, theirs) in [
        (&mut own.interval, other.interval),
        (&mut own.timeout, other.timeout),
        (&mut own.start_period, other.start_period),
        (&mut own.start_interval, other.start_interval),
        (&mut own.retries, other.retries),
    ] {
        if *mine == 0 {
            *mine = theirs.unwrap_or(0);
        }
    }
}

/// Refuses a portable half that can't be meant.
pub(crate) fn config(config: &Config) -> Result<()> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format_args!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if let Some(pair) = config.env.iter().flatten().find(|pair| pair.is_empty() || pair.starts_with('=')) {
        return Err(Error::invalid(format_args!("invalid environment variable: {pair}")));
    }
    if !config.stop_signal.is_empty() {
        signal::parse(&config.stop_signal)?;
    }
    if config.hostname.len() > 63 || config.hostname.starts_with('-') {
        return Err(Error::invalid(format_args!("invalid hostname format: {}", config.hostname)));
    }
    for port in config.exposed_ports.keys() {
        super::ports::parse_port(port)?;
    }
    if let Some(health) = &config.healthcheck {
        let least = 1_000_000;
        for (name, value) in [
            ("Interval", health.interval),
            ("Timeout", health.timeout),
            ("StartPeriod", health.start_period),
            ("StartInterval", health.start_interval),
        ] {
            if value != 0 && value < least {
                return Err(Error::invalid(format_args!("{name} in Healthcheck cannot be less than 1ms")));
            }
        }
        if health.retries < 0 {
            return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
        }
    }
    Ok(())
}

/// Fills in defaults and refuses a host's half that can't be meant. Returns warnings.
pub(crate) fn host_config(host: &mut HostConfig, defaults: &Defaults<'_>) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let default = |own: &mut String, value: &str| {
        if own.is_empty() {
            value.clone_into(own);
        }
    };
    if host.network_mode == "default" {
        host.network_mode.clear();
    }
    default(&mut host.network_mode, "bridge");
    default(&mut host.ipc_mode, "private");
    default(&mut host.cgroupns_mode, "private");
    default(&mut host.runtime, "runc");
    default(&mut host.restart_policy.name, "no");
    if host.log_config.r#type.is_empty() {
        host.log_config.r#type = defaults.log_driver.to_owned();
        for (name, value) in defaults.log_options {
            host.log_config.config.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    if host.shm_size == 0 {
        host.shm_size = if defaults.shm_size > 0 { defaults.shm_size } else { SHM_SIZE };
    }
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    let paths = |own: &mut Option<Vec<String>>, standard: &[&str]| {
        if own.is_none() {
            *own = Some(standard.iter().map(|path| (*path).to_owned()).collect());
        }
    };
    if host.privileged {
        host.masked_paths = None;
        host.readonly_paths = None;
    } else {
        paths(&mut host.masked_paths, runtime::MASKED_PATHS);
        paths(&mut host.readonly_paths, runtime::READONLY_PATHS);
    }
    if host.oom_kill_disable == Some(true) {
        warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
    }
    host.oom_kill_disable = None;
    if host.memory_swappiness.is_some_and(|value| value >= 0) {
        warnings.push("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.".to_owned());
    }
    host.memory_swappiness = None;
    limits(host, defaults.cpus)?;
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    if !matches!(host.runtime.as_str(), "runc" | "io.containerd.runc.v2") {
        return Err(Error::invalid(format_args!("unknown or invalid runtime name: {}", host.runtime)));
    }
    modes(host)?;
    warnings.extend(super::platform::check(host)?);
    restart::check(&host.restart_policy, host.auto_remove)?;
    crate::logs::check(&host.log_config)?;
    for (port, _) in host.port_bindings.iter().flatten() {
        super::ports::parse_port(port)?;
    }
    if host.network_mode == "host" && host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(warnings)
}

/// Refuses limits that can't be meant.
pub(crate) fn limits(host: &HostConfig, cpus: usize) -> Result<()> {
    let refuse = |message: String| Err(Error::invalid(message));
    let (memory, swap, reservation) = (host.memory, host.memory_swap, host.memory_reservation);
    if memory != 0 && memory < LEAST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB".into());
    }
    if memory > 0 && swap > 0 && swap < memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage".into());
    }
    if memory == 0 && swap > 0 {
        return refuse(
            "You should always set the Memory limit when using Memoryswap limit, see usage".into(),
        );
    }
    if reservation != 0 && reservation < LEAST_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB".into());
    }
    if memory > 0 && reservation > 0 && memory < reservation {
        return refuse(
            "Minimum memory limit can not be less than memory reservation limit, see usage".into(),
        );
    }
    if host.nano_cpus != 0 {
        if host.cpu_period > 0 {
            return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set".into());
        }
        if host.cpu_quota > 0 {
            return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set".into());
        }
        let most = i64::try_from(cpus).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        if host.nano_cpus < 0 || host.nano_cpus > most {
            return refuse(format!(
                "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            ));
        }
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".into(),
        );
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)".into());
    }
    if host.cpu_shares < 0 {
        return refuse(format!("invalid CPU shares ({}): value must be a positive integer", host.cpu_shares));
    }
    if host.blkio_weight != 0 && !(10..=1000).contains(&host.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000".into());
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return refuse(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    cpu_list(&host.cpuset_cpus, cpus)
}

/// Checks `0-2,5`.
fn cpu_list(text: &str, cpus: usize) -> Result<()> {
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.trim()
                .parse::<usize>()
                .map_err(|_| Error::invalid(format_args!("Invalid value {text} for cpuset cpus")))
        };
        if number(first)? > number(last)? || number(last)? >= cpus {
            let available = if cpus == 1 { "0".to_owned() } else { format!("0-{}", cpus - 1) };
            return Err(Error::invalid(format_args!(
                "Requested CPUs are not available - requested {text}, available: {available}"
            )));
        }
    }
    Ok(())
}

fn modes(host: &HostConfig) -> Result<()> {
    let refuse = |what: &str, mode: &str| Err(Error::invalid(format_args!("invalid {what} mode: {mode}")));
    let joined = |mode: &str| mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    match host.pid_mode.as_str() {
        "" | "private" | "host" => {}
        mode if joined(mode) => {}
        mode => return refuse("PID", mode),
    }
    match host.ipc_mode.as_str() {
        "" | "private" | "host" | "shareable" | "none" => {}
        mode if joined(mode) => {}
        mode => return refuse("IPC", mode),
    }
    match host.uts_mode.as_str() {
        "" | "private" | "host" => {}
        mode => return refuse("UTS", mode),
    }
    match host.cgroupns_mode.as_str() {
        "" | "private" | "host" => {}
        mode => return refuse("cgroup namespace", mode),
    }
    match host.userns_mode.as_str() {
        "" | "host" => {}
        mode => return refuse("user namespace", mode),
    }
    if let Some(request) = host.device_requests.iter().flatten().next() {
        let groups = request.capabilities.iter().flatten().map(|group| format!("[{}]", group.join(" ")));
        return Err(Error::invalid(format_args!(
            "could not select device driver \"{}\" with capabilities: [{}]",
            request.driver,
            groups.collect::<Vec<_>>().join(" ")
        )));
    }
    Ok(())
}

/// The limits as the runtime takes them.
pub(crate) fn resources(host: &HostConfig) -> Resources {
    let wish = |value: i64| (value != 0).then_some(value);
    let unsigned = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let text = |value: &String| (!value.is_empty()).then(|| value.clone());
    let (quota, period) = if host.nano_cpus > 0 {
        (Some(host.nano_cpus / 10_000), Some(100_000))
    } else {
        (wish(host.cpu_quota), unsigned(host.cpu_period))
    };
    let throttles = |list: &Option<Vec<super::spec::ThrottleDevice>>| {
        list.iter().flatten().filter_map(|device| limit(&device.path, device.rate)).collect()
    };
    Resources {
        memory: wish(host.memory),
        memory_swap: wish(host.memory_swap),
        memory_reservation: wish(host.memory_reservation),
        cpu_shares: unsigned(host.cpu_shares),
        cpu_quota: quota,
        cpu_period: period,
        cpuset_cpus: text(&host.cpuset_cpus),
        cpuset_mems: text(&host.cpuset_mems),
        pids: host.pids_limit.filter(|limit| *limit != 0),
        io_weight: (host.blkio_weight != 0).then_some(host.blkio_weight),
        io_weight_devices: host
            .blkio_weight_device
            .iter()
            .flatten()
            .filter_map(|device| limit(&device.path, u64::from(device.weight)))
            .collect(),
        read_bps: throttles(&host.blkio_device_read_bps),
        write_bps: throttles(&host.blkio_device_write_bps),
        read_iops: throttles(&host.blkio_device_read_iops),
        write_iops: throttles(&host.blkio_device_write_iops),
    }
}

fn limit(path: &str, value: u64) -> Option<runtime::DeviceLimit> {
    let number = rustix::fs::stat(path).ok()?.st_rdev;
    Some(runtime::DeviceLimit { major: rustix::fs::major(number), minor: rustix::fs::minor(number), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(host: HostConfig) -> Result<(HostConfig, Vec<String>)> {
        let mut host = host;
        let options = BTreeMap::new();
        let defaults = Defaults { cpus: 2, log_driver: "json-file", log_options: &options, shm_size: 0 };
        let warnings = host_config(&mut host, &defaults)?;
        Ok((host, warnings))
    }

    #[test]
    fn defaults_are_docker_s() {
        let (host, warnings) = checked(HostConfig { memory: 8 << 20, ..HostConfig::default() }).unwrap();
        assert_eq!((host.network_mode.as_str(), host.ipc_mode.as_str()), ("bridge", "private"));
        assert_eq!((host.shm_size, host.memory_swap), (64 << 20, 16 << 20));
        assert_eq!(host.log_config.r#type, "json-file");
        assert!(host.masked_paths.unwrap().contains(&"/proc/kcore".to_owned()));
        assert!(warnings.is_empty());
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        let message = |host: HostConfig| checked(host).unwrap_err().message;
        let host = HostConfig::default;
        assert_eq!(message(HostConfig { memory: 1, ..host() }), "Minimum memory limit allowed is 6MB");
        assert_eq!(
            message(HostConfig { nano_cpus: 3_000_000_000, ..host() }),
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
        );
        assert_eq!(
            message(HostConfig { cpuset_cpus: "0-7".into(), ..host() }),
            "Requested CPUs are not available - requested 0-7, available: 0-1"
        );
        assert_eq!(message(HostConfig { pid_mode: "odd".into(), ..host() }), "invalid PID mode: odd");
    }

    #[test]
    fn the_client_s_words_stand_before_the_image_s() {
        let image: image::ContainerConfig = serde_json::from_str(
            r#"{"Env":["A=image","PATH=/bin"],"Cmd":["sh"],"Entrypoint":["/entry"],"Labels":{"l":"i"}}"#,
        )
        .unwrap();
        let merged = |text: &str| {
            let mut config: Config = serde_json::from_str(text).unwrap();
            merge_image(&mut config, &image).map(|()| config)
        };
        let config = merged(r#"{"Env":["A=mine"],"Labels":{"l":"m"}}"#).unwrap();
        assert_eq!(config.env.as_deref().unwrap(), ["A=mine", "PATH=/bin"]);
        assert_eq!(config.labels["l"], "m");
        assert_eq!(command(&config), ["/entry", "sh"]);
        assert_eq!(command(&merged(r#"{"Cmd":["ls"]}"#).unwrap()), ["/entry", "ls"]);
        assert_eq!(command(&merged(r#"{"Entrypoint":["cat"]}"#).unwrap()), ["cat"]);
        assert_eq!(command(&merged(r#"{"Entrypoint":[""],"Cmd":["ls"]}"#).unwrap()), ["ls"]);
        assert_eq!(merged(r#"{"Entrypoint":[""]}"#).unwrap_err().message, "no command specified");
    }
}
