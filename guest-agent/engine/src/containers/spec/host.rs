//! The host's half of what a container is asked to be: resources, networks, rights.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Mount, Words, record, zero};

record! {
    /// The half that belongs to this host: resources, mounts, networks, rights.
    pub struct HostConfig {
        /// `source:target[:options]`.
        pub binds: Option<Vec<String>>,
        /// File the client wants the id in; kept as given.
        #[serde(rename = "ContainerIDFile")]
        pub container_id_file: String,
        /// The log driver.
        pub log_config: LogConfig,
        /// `bridge`, `host`, `none`, `container:ID` or a network's name.
        pub network_mode: String,
        /// `port/protocol` → where on the host.
        pub port_bindings: Option<BTreeMap<String, Option<Vec<PortBinding>>>>,
        /// What to do when it ends.
        pub restart_policy: RestartPolicy,
        /// Remove it when it ends.
        pub auto_remove: bool,
        /// Volume driver of `Binds`.
        pub volume_driver: String,
        /// Containers whose volumes are taken over.
        pub volumes_from: Option<Vec<String>>,
        /// Height and width of the terminal.
        pub console_size: [u32; 2],
        /// Free-form OCI annotations.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub annotations: Option<BTreeMap<String, String>>,
        /// Capabilities to add.
        pub cap_add: Option<Words>,
        /// Capabilities to drop.
        pub cap_drop: Option<Words>,
        /// `private` or `host`.
        pub cgroupns_mode: String,
        /// Name servers.
        pub dns: Option<Vec<String>>,
        /// Options of resolv.conf.
        pub dns_options: Option<Vec<String>>,
        /// Search domains.
        pub dns_search: Option<Vec<String>>,
        /// `host:address` lines for /etc/hosts.
        pub extra_hosts: Option<Vec<String>>,
        /// Supplementary groups.
        pub group_add: Option<Vec<String>>,
        /// `private`, `shareable`, `host`, `none` or `container:ID`.
        pub ipc_mode: String,
        /// Parent cgroup of `--cgroup-parent` rules of old; kept as given.
        pub cgroup: String,
        /// Legacy links.
        pub links: Option<Vec<String>>,
        /// OOM preference, -1000 to 1000.
        pub oom_score_adj: i64,
        /// ``, `host` or `container:ID`.
        pub pid_mode: String,
        /// All rights.
        pub privileged: bool,
        /// Publish every exposed port.
        pub publish_all_ports: bool,
        /// Read-only root file system.
        pub readonly_rootfs: bool,
        /// `no-new-privileges`, `seccomp=…`, `apparmor=…`, `label=…`.
        pub security_opt: Option<Vec<String>>,
        /// Options of the storage driver.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub storage_opt: Option<BTreeMap<String, String>>,
        /// Path → options.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tmpfs: Option<BTreeMap<String, String>>,
        /// `` or `host`.
        #[serde(rename = "UTSMode")]
        pub uts_mode: String,
        /// `` or `host`.
        pub userns_mode: String,
        /// Size of /dev/shm in bytes.
        pub shm_size: i64,
        /// Kernel parameters.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub sysctls: Option<BTreeMap<String, String>>,
        /// Name of the OCI runtime; there is one.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub runtime: String,
        /// Windows only.
        pub isolation: String,
        /// Relative weight of CPU time.
        pub cpu_shares: i64,
        /// Memory limit in bytes.
        pub memory: i64,
        /// CPU quota in billionths of a CPU.
        pub nano_cpus: i64,
        /// Parent of the container's cgroup.
        pub cgroup_parent: String,
        /// Relative weight of block I/O, 10 to 1000.
        pub blkio_weight: u16,
        /// Weight per device.
        pub blkio_weight_device: Option<Vec<WeightDevice>>,
        /// Bytes per second read.
        pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
        /// Bytes per second written.
        pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
        /// Operations per second read.
        #[serde(rename = "BlkioDeviceReadIOps")]
        pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
        /// Operations per second written.
        #[serde(rename = "BlkioDeviceWriteIOps")]
        pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
        /// CFS period in microseconds.
        pub cpu_period: i64,
        /// CFS quota in microseconds.
        pub cpu_quota: i64,
        /// Real-time period in microseconds.
        pub cpu_realtime_period: i64,
        /// Real-time runtime in microseconds.
        pub cpu_realtime_runtime: i64,
        /// CPUs, `0-3,5`.
        pub cpuset_cpus: String,
        /// Memory nodes.
        pub cpuset_mems: String,
        /// Devices.
        pub devices: Option<Vec<DeviceMapping>>,
        /// Rules for devices.
        pub device_cgroup_rules: Option<Vec<String>>,
        /// Devices asked of a driver (GPUs).
        pub device_requests: Option<Vec<DeviceRequest>>,
        /// Kernel TCP buffer memory; obsolete.
        #[serde(skip_serializing_if = "zero", rename = "KernelMemoryTCP")]
        pub kernel_memory_tcp: i64,
        /// Soft limit in bytes.
        pub memory_reservation: i64,
        /// Memory and swap together; -1 is unlimited.
        pub memory_swap: i64,
        /// 0 to 100.
        pub memory_swappiness: Option<i64>,
        /// No OOM killer.
        pub oom_kill_disable: Option<bool>,
        /// Process limit; 0 and -1 are unlimited.
        pub pids_limit: Option<i64>,
        /// Resource limits.
        pub ulimits: Option<Vec<Ulimit>>,
        /// Windows only.
        pub cpu_count: i64,
        /// Windows only.
        pub cpu_percent: i64,
        /// Windows only.
        #[serde(rename = "IOMaximumIOps")]
        pub io_maximum_iops: u64,
        /// Windows only.
        #[serde(rename = "IOMaximumBandwidth")]
        pub io_maximum_bandwidth: u64,
        /// Mounts in the long form.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub mounts: Option<Vec<Mount>>,
        /// Paths hidden from the container.
        pub masked_paths: Option<Vec<String>>,
        /// Paths it can't write.
        pub readonly_paths: Option<Vec<String>>,
        /// Run a small init as PID 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub init: Option<bool>,
    }
}

record! {
    /// Which log driver, with which options.
    pub struct LogConfig {
        /// `json-file`, `local`, `none`.
        pub r#type: String,
        /// Its options.
        pub config: BTreeMap<String, String>,
    }
}

record! {
    /// One place on the host where a port is published.
    pub struct PortBinding {
        /// Address; empty is all.
        #[serde(rename = "HostIp")]
        pub host_ip: String,
        /// Port or range; empty or `0` is any.
        pub host_port: String,
    }
}

record! {
    /// When an ended container starts again.
    pub struct RestartPolicy {
        /// ``, `no`, `always`, `unless-stopped`, `on-failure`.
        pub name: String,
        /// For `on-failure`; 0 is without end.
        pub maximum_retry_count: i64,
    }
}

record! {
    /// A device's share of block I/O.
    pub struct WeightDevice {
        /// Path of the device.
        pub path: String,
        /// Its weight.
        pub weight: u16,
    }
}

record! {
    /// A device's limit of block I/O.
    pub struct ThrottleDevice {
        /// Path of the device.
        pub path: String,
        /// Its rate.
        pub rate: u64,
    }
}

record! {
    /// A device of the host in the container.
    pub struct DeviceMapping {
        /// Path on the host.
        pub path_on_host: String,
        /// Path in the container.
        pub path_in_container: String,
        /// `rwm`.
        pub cgroup_permissions: String,
    }
}

record! {
    /// Devices asked of a driver.
    pub struct DeviceRequest {
        /// The driver.
        pub driver: String,
        /// How many; -1 is all.
        pub count: i64,
        /// Which.
        #[serde(rename = "DeviceIDs")]
        pub device_ids: Option<Vec<String>>,
        /// What they must be able to do.
        pub capabilities: Option<Vec<Vec<String>>>,
        /// For the driver.
        pub options: Option<BTreeMap<String, String>>,
    }
}

record! {
    /// A resource limit.
    pub struct Ulimit {
        /// `nofile`, `core`, ….
        pub name: String,
        /// The hard limit; -1 is unlimited.
        pub hard: i64,
        /// The soft limit; -1 is unlimited.
        pub soft: i64,
    }
}
