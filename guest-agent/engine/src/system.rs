//! What the engine says of itself: `info`, `version` and disk usage.
//!
//! Clients branch on some of these strings, so each is chosen on purpose. `OperatingSystem` is our own name:
//! to say "Docker Desktop" would make Testcontainers guess socket paths that we don't have. `Driver` is
//! `overlay2`, because tools look at it to know whether overlay works and our layers are overlay mounts.
//! `CgroupDriver` is `cgroupfs`: no systemd manages the groups.

use std::collections::BTreeMap;

use serde::Serialize;

/// Highest API version that the engine honours.
pub const API_VERSION: &str = "1.51";
/// Lowest API version that the engine honours.
pub const MIN_API_VERSION: &str = "1.24";
/// The engine's version.
pub const ENGINE_VERSION: &str = env!("CARGO_PKG_VERSION");
/// The storage driver's name, in info, inspect and list.
pub const STORAGE_DRIVER: &str = "overlay2";

/// The body of `GET /info`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SystemInfo {
    /// The engine's own id, kept with its data.
    #[serde(rename = "ID")]
    pub id: String,
    /// All.
    pub containers: usize,
    /// Of which run.
    pub containers_running: usize,
    /// Of which are paused.
    pub containers_paused: usize,
    /// Of which don't run.
    pub containers_stopped: usize,
    /// Images.
    pub images: usize,
    /// Storage driver.
    pub driver: &'static str,
    /// Rows of name and value.
    pub driver_status: Vec<[String; 2]>,
    /// What can be plugged in.
    pub plugins: Plugins,
    /// The kernel can limit memory.
    pub memory_limit: bool,
    /// The kernel can limit swap.
    pub swap_limit: bool,
    /// The kernel can limit CPU time by CFS periods.
    #[serde(rename = "CpuCfsPeriod")]
    pub cpu_cfs_period: bool,
    /// The kernel can limit CPU time by CFS quotas.
    #[serde(rename = "CpuCfsQuota")]
    pub cpu_cfs_quota: bool,
    /// The kernel can weigh CPU time.
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    /// The kernel can bind to CPUs.
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    /// The kernel can limit the number of processes.
    pub pids_limit: bool,
    /// Addresses are forwarded.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// Debugging.
    pub debug: bool,
    /// Open files of the engine.
    #[serde(rename = "NFd")]
    pub n_fd: usize,
    /// cgroup v2 has no such switch.
    pub oom_kill_disable: bool,
    /// Tasks of the engine.
    pub n_goroutines: usize,
    /// Now.
    pub system_time: String,
    /// Default log driver.
    pub logging_driver: &'static str,
    /// How cgroups are managed.
    pub cgroup_driver: &'static str,
    /// `2`.
    pub cgroup_version: &'static str,
    /// Listeners of events.
    pub n_events_listener: usize,
    /// The kernel.
    pub kernel_version: String,
    /// The product.
    pub operating_system: String,
    /// Its version.
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// `linux`.
    #[serde(rename = "OSType")]
    pub os_type: &'static str,
    /// Machine, as `uname -m` says it.
    pub architecture: String,
    /// CPUs.
    #[serde(rename = "NCPU")]
    pub n_cpu: usize,
    /// Memory in bytes.
    pub mem_total: u64,
    /// Docker's index server.
    pub index_server_address: &'static str,
    /// Registries.
    pub registry_config: RegistryConfig,
    /// None.
    pub generic_resources: Option<Vec<serde_json::Value>>,
    /// Proxy of pulls.
    pub http_proxy: String,
    /// Proxy of pulls over TLS.
    pub https_proxy: String,
    /// Names that bypass it.
    pub no_proxy: String,
    /// The machine's name.
    pub name: String,
    /// The engine's labels.
    pub labels: Vec<String>,
    /// Experimental features.
    pub experimental_build: bool,
    /// The engine's version.
    pub server_version: String,
    /// OCI runtimes.
    pub runtimes: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    /// The default one.
    pub default_runtime: &'static str,
    /// No swarm.
    pub swarm: SwarmInfo,
    /// Containers go on without the engine.
    pub live_restore_enabled: bool,
    /// Windows only.
    pub isolation: &'static str,
    /// The init of `--init`.
    pub init_binary: &'static str,
    /// containerd; none.
    pub containerd_commit: Commit,
    /// runc; none.
    pub runc_commit: Commit,
    /// The init's.
    pub init_commit: Commit,
    /// `name=seccomp,profile=builtin`, ….
    pub security_options: Vec<String>,
    /// Pools for networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default_address_pools: Vec<AddressPool>,
    /// What keeps addresses apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_backend: Option<FirewallInfo>,
    /// Where CDI specifications are looked for.
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Vec<String>,
    /// What can't be honoured on this machine.
    pub warnings: Vec<String>,
    /// The data root.
    pub docker_root_dir: String,
}

/// What can be plugged in.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Plugins {
    /// Volume drivers.
    pub volume: Vec<&'static str>,
    /// Network drivers.
    pub network: Vec<&'static str>,
    /// Authorization plugins.
    pub authorization: Option<Vec<&'static str>>,
    /// Log drivers.
    pub log: Vec<&'static str>,
}

/// Registries in info.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegistryConfig {
    /// Networks that may be insecure.
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Vec<String>,
    /// Registries by name.
    pub index_configs: BTreeMap<String, IndexInfo>,
    /// Mirrors of Docker's.
    pub mirrors: Vec<String>,
}

/// A registry in info.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct IndexInfo {
    /// Its name.
    pub name: String,
    /// Its mirrors.
    pub mirrors: Vec<String>,
    /// TLS is demanded.
    pub secure: bool,
    /// It is Docker's own.
    pub official: bool,
}

/// No swarm.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SwarmInfo {
    /// Empty.
    #[serde(rename = "NodeID")]
    pub node_id: &'static str,
    /// Empty.
    pub node_addr: &'static str,
    /// `inactive`.
    pub local_node_state: &'static str,
    /// Never.
    pub control_available: bool,
    /// Empty.
    pub error: &'static str,
    /// None.
    pub remote_managers: Option<Vec<String>>,
}

impl Default for SwarmInfo {
    fn default() -> Self {
        SwarmInfo {
            node_id: "",
            node_addr: "",
            local_node_state: "inactive",
            control_available: false,
            error: "",
            remote_managers: None,
        }
    }
}

/// A component's commit.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Commit {
    /// It.
    #[serde(rename = "ID")]
    pub id: String,
}

/// A pool of addresses for networks.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddressPool {
    /// The whole.
    pub base: String,
    /// Prefix of each part.
    pub size: u8,
}

/// What keeps addresses apart.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FirewallInfo {
    /// `nftables`.
    pub driver: &'static str,
}

/// The body of `GET /version`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VersionInfo {
    /// The product.
    pub platform: PlatformName,
    /// Its parts.
    pub components: Vec<Component>,
    /// The engine's version.
    pub version: String,
    /// Highest API version.
    pub api_version: &'static str,
    /// Lowest API version.
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: &'static str,
    /// Source it was built from.
    pub git_commit: String,
    /// Compiler; the field's name is Docker's.
    pub go_version: String,
    /// `linux`.
    pub os: &'static str,
    /// Machine, as Docker says it (`amd64`, `arm64`).
    pub arch: &'static str,
    /// The kernel.
    pub kernel_version: String,
    /// When it was built.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build_time: String,
}

/// The product's name.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PlatformName {
    /// It.
    pub name: String,
}

/// A part of the engine.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Component {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: String,
    /// More.
    pub details: BTreeMap<&'static str, String>,
}

/// The body of `GET /system/df`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DiskUsage {
    /// Bytes of all layers.
    pub layers_size: i64,
    /// Images.
    pub images: Vec<crate::images::ImageSummary>,
    /// Containers with sizes.
    pub containers: Vec<crate::containers::view::ContainerSummary>,
    /// Volumes with usage.
    pub volumes: Vec<crate::volumes::Volume>,
    /// Build cache.
    pub build_cache: Vec<serde_json::Value>,
}

/// Docker's word for this machine.
pub const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}
