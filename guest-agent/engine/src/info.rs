//! Gathering what `info`, `version` and `system df` say.

use std::collections::BTreeMap;
use std::path::Path;

use crate::containers::request::ListOptions;
use crate::containers::state::State;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::images::ImageListOptions;
use crate::system::{
    API_VERSION, AddressPool, Commit, Component, DiskUsage, ENGINE_VERSION, FirewallInfo, IndexInfo,
    MIN_API_VERSION, PlatformName, Plugins, RegistryConfig, STORAGE_DRIVER, SwarmInfo, SystemInfo,
    VersionInfo, architecture,
};
use crate::time::Time;

/// `GET /version`
pub(crate) fn version() -> VersionInfo {
    let uname = rustix::system::uname();
    let kernel = uname.release().to_string_lossy().into_owned();
    let details = BTreeMap::from([
        ("ApiVersion", API_VERSION.to_owned()),
        ("Arch", architecture().to_owned()),
        ("BuildTime", String::new()),
        ("Experimental", "false".to_owned()),
        ("GitCommit", String::new()),
        ("GoVersion", String::new()),
        ("KernelVersion", kernel.clone()),
        ("MinAPIVersion", MIN_API_VERSION.to_owned()),
        ("Os", "linux".to_owned()),
    ]);
    VersionInfo {
        platform: PlatformName { name: "Sampan".to_owned() },
        components: vec![Component { name: "Engine", version: ENGINE_VERSION.to_owned(), details }],
        version: ENGINE_VERSION.to_owned(),
        api_version: API_VERSION,
        min_api_version: MIN_API_VERSION,
        git_commit: String::new(),
        go_version: String::new(),
        os: "linux",
        arch: architecture(),
        kernel_version: kernel,
        build_time: String::new(),
    }
}

/// Bytes of memory of this machine.
pub(crate) fn memory_total() -> u64 {
    let table = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = table.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Docker's word for the file system below a path.
fn backing_file_system(path: &Path) -> &'static str {
    match rustix::fs::statfs(path).map(|stat| stat.f_type) {
        Ok(0xef53) => "extfs",
        Ok(0x5846_5342) => "xfs",
        Ok(0x9123_683e) => "btrfs",
        Ok(0x0102_1994) => "tmpfs",
        Ok(0x794c_7630) => "overlayfs",
        _ => "<unknown>",
    }
}

/// `GET /info`
pub(crate) fn info(engine: &Engine) -> SystemInfo {
    let inner = engine.inner();
    let config = engine.config();
    let host = inner.runtime.host();
    let uname = rustix::system::uname();
    let states: Vec<State> = inner.registry.all().iter().map(|container| container.now().state).collect();
    let count = |fits: fn(&State) -> bool| states.iter().filter(|state| fits(state)).count();
    let running = count(|state| matches!(state, State::Running { .. }));
    let paused = count(|state| matches!(state, State::Paused { .. }));
    let proxies = config.proxies.masked();
    let mut security = Vec::new();
    if host.seccomp {
        security.push("name=seccomp,profile=builtin".to_owned());
    }
    security.push("name=cgroupns".to_owned());
    SystemInfo {
        id: inner.id.clone(),
        containers: states.len(),
        containers_running: running,
        containers_paused: paused,
        containers_stopped: states.len() - running - paused,
        images: inner.images.list().len(),
        driver: STORAGE_DRIVER,
        driver_status: driver_status(&config.data_root),
        plugins: Plugins {
            volume: vec!["local"],
            network: vec!["bridge", "host", "null"],
            authorization: None,
            log: vec!["json-file", "none"],
        },
        memory_limit: host.has("memory"),
        swap_limit: host.swap_limit,
        cpu_cfs_period: host.has("cpu"),
        cpu_cfs_quota: host.has("cpu"),
        cpu_shares: host.has("cpu"),
        cpu_set: host.has("cpuset"),
        pids_limit: host.has("pids"),
        ipv4_forwarding: std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
            .is_ok_and(|text| text.trim() == "1"),
        debug: config.options.debug,
        n_fd: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        oom_kill_disable: false,
        n_goroutines: tokio::runtime::Handle::try_current()
            .map_or(0, |handle| handle.metrics().num_alive_tasks()),
        system_time: Time::now().to_string(),
        logging_driver: "json-file",
        cgroup_driver: "cgroupfs",
        cgroup_version: "2",
        n_events_listener: inner.events.listeners(),
        kernel_version: host.kernel.clone(),
        operating_system: "Sampan".to_owned(),
        os_version: ENGINE_VERSION.to_owned(),
        os_type: "linux",
        architecture: uname.machine().to_string_lossy().into_owned(),
        n_cpu: inner.cpus,
        mem_total: memory_total(),
        index_server_address: "https://index.docker.io/v1/",
        registry_config: registries(&config.options),
        generic_resources: None,
        http_proxy: proxies.http,
        https_proxy: proxies.https,
        no_proxy: proxies.exceptions,
        name: uname.nodename().to_string_lossy().into_owned(),
        labels: config.options.labels.clone(),
        experimental_build: false,
        server_version: ENGINE_VERSION.to_owned(),
        runtimes: BTreeMap::from([("runc", BTreeMap::from([("path", "builtin".to_owned())]))]),
        default_runtime: "runc",
        swarm: SwarmInfo::default(),
        live_restore_enabled: config.options.live_restore,
        isolation: "",
        init_binary: "builtin",
        containerd_commit: Commit::default(),
        runc_commit: Commit::default(),
        init_commit: Commit::default(),
        security_options: security,
        default_address_pools: config
            .options
            .address_pools
            .iter()
            .map(|(base, size)| AddressPool { base: base.clone(), size: *size })
            .collect(),
        firewall_backend: Some(FirewallInfo { driver: "nftables" }),
        cdi_spec_dirs: Vec::new(),
        warnings: warnings(host),
        docker_root_dir: config.data_root.to_string_lossy().into_owned(),
    }
}

fn driver_status(data_root: &Path) -> Vec<[String; 2]> {
    [
        ("Backing Filesystem", backing_file_system(data_root)),
        ("Supports d_type", "true"),
        ("Using metacopy", "false"),
        ("Native Overlay Diff", "true"),
        ("userxattr", "false"),
    ]
    .map(|(name, value)| [name.to_owned(), value.to_owned()])
    .to_vec()
}

fn registries(options: &crate::config::Options) -> RegistryConfig {
    let index = |name: &str, secure, official| IndexInfo {
        name: name.to_owned(),
        mirrors: if official { options.registry_mirrors.clone() } else { Vec::new() },
        secure,
        official,
    };
    let mut configs = BTreeMap::from([("docker.io".to_owned(), index("docker.io", true, true))]);
    let mut networks = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    for name in &options.insecure_registries {
        if name.contains('/') {
            networks.push(name.clone());
        } else {
            configs.insert(name.clone(), index(name, false, false));
        }
    }
    RegistryConfig {
        insecure_registry_cidrs: networks,
        index_configs: configs,
        mirrors: options.registry_mirrors.clone(),
    }
}

fn warnings(host: &runtime::HostFacts) -> Vec<String> {
    let mut warnings = Vec::new();
    for (controller, what) in [
        ("memory", "WARNING: No memory limit support"),
        ("cpu", "WARNING: No cpu shares support"),
        ("cpuset", "WARNING: No cpuset support"),
        ("pids", "WARNING: No pids limit support"),
        ("io", "WARNING: No io.max (rbps) support"),
    ] {
        if !host.has(controller) {
            warnings.push(what.to_owned());
        }
    }
    if !host.swap_limit {
        warnings.push("WARNING: No swap limit support".to_owned());
    }
    if !host.device_filter {
        warnings.push("WARNING: No device filter support".to_owned());
    }
    warnings
}

/// `GET /system/df`
pub(crate) async fn disk_usage(engine: &Engine) -> Result<DiskUsage> {
    let options = ImageListOptions { all: true, filters: Filters::default(), shared_size: true };
    let images = engine.images().list(options).await?;
    let of_containers = engine.clone();
    let containers = tokio::task::spawn_blocking(move || {
        let options = ListOptions { all: true, size: true, ..ListOptions::default() };
        crate::containers::list::list(&of_containers, &options)
    });
    let mut layers = BTreeMap::new();
    for image in engine.inner().images.list() {
        layers.extend(image.layers.iter().map(|layer| (layer.diff_id.to_string(), layer.size)));
    }
    Ok(DiskUsage {
        layers_size: i64::try_from(layers.values().sum::<u64>()).unwrap_or(i64::MAX),
        images,
        containers: containers.await.map_err(Error::system)??,
        volumes: engine.volumes().usage().await?,
        build_cache: Vec::new(),
    })
}
