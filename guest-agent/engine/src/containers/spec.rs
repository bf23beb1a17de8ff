//! What a container was asked to be, in Docker's own JSON.
//!
//! These records are three things at once: the body of `POST /containers/create`, the record at rest and
//! the `Config` and `HostConfig` of inspect. One spelling serves all three, so nothing is lost on the way.
//!
//! dockerd is a Go program: for it a missing field, `null` and the zero value are the same. Each field here
//! reads `null` as its default, and an `Option` is used only where dockerd itself tells "absent" from "empty"
//! or prints `null`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Reads `null` as the default value, as Go does.
pub fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A record in Docker's spelling, every field of which may be missing or `null`.
macro_rules! record {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        $visibility struct $name {
            $($(#[$field_meta])* #[serde(deserialize_with = "crate::containers::spec::or_default")] pub $field: $type,)*
        }
    };
}
pub(crate) use record;

/// A JSON object without fields: the value of Go's `map[string]struct{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A command line: Docker accepts one string where a list is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            One(String),
            Many(Vec<String>),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::One(word) => Words(vec![word]),
            Either::Many(words) => Words(words),
        })
    }
}

record! {
    /// The portable half: what the image says and the client overrides.
    pub struct Config {
        /// Host name; the short id when empty.
        pub hostname: String,
        /// NIS domain name.
        pub domainname: String,
        /// `user`, `uid`, `user:group` or `uid:gid`.
        pub user: String,
        /// Attach to stdin (the client's wish; the engine only records it).
        pub attach_stdin: bool,
        /// Attach to stdout.
        pub attach_stdout: bool,
        /// Attach to stderr.
        pub attach_stderr: bool,
        /// `port/protocol` → nothing.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub exposed_ports: BTreeMap<String, Empty>,
        /// Give the container a terminal.
        pub tty: bool,
        /// Keep stdin open without a client.
        pub open_stdin: bool,
        /// Close stdin when the first attached client leaves.
        pub stdin_once: bool,
        /// `NAME=value`.
        pub env: Option<Vec<String>>,
        /// Arguments, or the command where there is no entrypoint.
        pub cmd: Option<Words>,
        /// The health check.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<Healthcheck>,
        /// Windows only; kept as given.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub args_escaped: bool,
        /// The image's name as the client wrote it.
        pub image: String,
        /// Mount points for anonymous volumes.
        pub volumes: Option<BTreeMap<String, Empty>>,
        /// Working directory.
        pub working_dir: String,
        /// Entry point; `[""]` resets the image's.
        pub entrypoint: Option<Words>,
        /// No network at all.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub network_disabled: bool,
        /// MAC address (up to API 1.43).
        #[serde(skip_serializing_if = "String::is_empty")]
        pub mac_address: String,
        /// Build triggers of the image.
        pub on_build: Option<Vec<String>>,
        /// Labels.
        #[serde(serialize_with = "crate::containers::spec::map")]
        pub labels: BTreeMap<String, String>,
        /// Signal that asks the container to stop.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub stop_signal: String,
        /// Seconds between that signal and SIGKILL.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub stop_timeout: Option<i64>,
        /// Shell of the shell form.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub shell: Option<Words>,
    }
}

/// Labels are printed as `{}` when there are none.
pub(crate) fn map<S: serde::Serializer>(
    labels: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels)
}

record! {
    /// How to learn whether the container is well. Times are nanoseconds.
    pub struct Healthcheck {
        /// `[]` inherit, `["NONE"]` off, `["CMD", …]` or `["CMD-SHELL", line]`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub test: Option<Words>,
        /// Between two checks.
        #[serde(skip_serializing_if = "zero")]
        pub interval: i64,
        /// For one check.
        #[serde(skip_serializing_if = "zero")]
        pub timeout: i64,
        /// Grace after the start.
        #[serde(skip_serializing_if = "zero")]
        pub start_period: i64,
        /// Between two checks within the start period.
        #[serde(skip_serializing_if = "zero")]
        pub start_interval: i64,
        /// Failures in a row until unhealthy.
        #[serde(skip_serializing_if = "zero")]
        pub retries: i64,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn zero(value: &i64) -> bool {
    *value == 0
}

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

record! {
    /// A mount in the long form (`--mount`).
    pub struct Mount {
        /// `bind`, `volume`, `tmpfs`, `image`, `npipe`, `cluster`.
        pub r#type: String,
        /// Host path, volume name or image.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub source: String,
        /// Path in the container.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub target: String,
        /// Read-only.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub read_only: bool,
        /// A hint for other platforms; accepted, without effect.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub consistency: String,
        /// For `bind`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bind_options: Option<BindOptions>,
        /// For `volume`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub volume_options: Option<VolumeOptions>,
        /// For `tmpfs`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tmpfs_options: Option<TmpfsOptions>,
        /// For `image`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_options: Option<ImageOptions>,
    }
}

record! {
    /// Options of a bind mount.
    pub struct BindOptions {
        /// `rprivate`, `private`, `rshared`, `shared`, `rslave`, `slave`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub propagation: String,
        /// Without the mounts below it.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub non_recursive: bool,
        /// Make a missing source.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub create_mountpoint: bool,
        /// Read-only for this mount, not for those below it.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub read_only_non_recursive: bool,
        /// Fail unless those below can be made read-only too.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub read_only_force_recursive: bool,
    }
}

record! {
    /// Options of a volume mount.
    pub struct VolumeOptions {
        /// Without copy-up.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub no_copy: bool,
        /// Labels of a volume made here.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub labels: BTreeMap<String, String>,
        /// Driver of a volume made here.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub driver_config: Option<DriverConfig>,
        /// A path within the volume.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub subpath: String,
    }
}

record! {
    /// A volume driver and its options.
    pub struct DriverConfig {
        /// Its name.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String,
        /// Its options.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub options: BTreeMap<String, String>,
    }
}

record! {
    /// Options of a tmpfs mount.
    pub struct TmpfsOptions {
        /// Bytes; 0 is unlimited.
        #[serde(skip_serializing_if = "zero")]
        pub size_bytes: i64,
        /// Mode bits, decimal in JSON.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub mode: Option<u32>,
        /// More options, each one or two words.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub options: Option<Vec<Vec<String>>>,
    }
}

record! {
    /// Options of an image mount.
    pub struct ImageOptions {
        /// A path within the image.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub subpath: String,
    }
}

record! {
    /// The networks a container joins.
    pub struct NetworkingConfig {
        /// Network name → how.
        pub endpoints_config: BTreeMap<String, Option<EndpointSettings>>,
    }
}

record! {
    /// One container's place in one network, as asked for and as it came out.
    pub struct EndpointSettings {
        /// Wished addresses.
        #[serde(rename = "IPAMConfig")]
        pub ipam_config: Option<EndpointIpam>,
        /// Legacy links.
        pub links: Option<Vec<String>>,
        /// More names.
        pub aliases: Option<Vec<String>>,
        /// MAC address.
        pub mac_address: String,
        /// Options for the driver.
        pub driver_opts: Option<BTreeMap<String, String>>,
        /// The highest wins the default route.
        pub gw_priority: i64,
        /// The network.
        #[serde(rename = "NetworkID")]
        pub network_id: String,
        /// The endpoint.
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        /// IPv4 gateway.
        pub gateway: String,
        /// IPv4 address.
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        /// Its prefix.
        #[serde(rename = "IPPrefixLen")]
        pub ip_prefix_len: u8,
        /// IPv6 gateway.
        #[serde(rename = "IPv6Gateway")]
        pub ipv6_gateway: String,
        /// IPv6 address.
        #[serde(rename = "GlobalIPv6Address")]
        pub global_ipv6_address: String,
        /// Its prefix.
        #[serde(rename = "GlobalIPv6PrefixLen")]
        pub global_ipv6_prefix_len: u8,
        /// Names that resolve to it.
        #[serde(rename = "DNSNames")]
        pub dns_names: Option<Vec<String>>,
    }
}

record! {
    /// Wished addresses.
    pub struct EndpointIpam {
        /// IPv4.
        #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
        pub ipv4_address: String,
        /// IPv6.
        #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
        pub ipv6_address: String,
        /// Link-local.
        #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Option::is_none")]
        pub link_local_ips: Option<Vec<String>>,
    }
}

/// The body of `POST /containers/create`: `Config` with two more fields beside its own.
#[derive(Debug, Clone, Default)]
pub struct CreateBody {
    /// The portable half.
    pub config: Config,
    /// The host's half.
    pub host_config: HostConfig,
    /// The networks.
    pub networking_config: NetworkingConfig,
}

record! {
    /// What a create has beside `Config`.
    struct Beside {
        /// The host's half.
        pub host_config: HostConfig,
        /// The networks.
        pub networking_config: NetworkingConfig,
    }
}

impl<'de> Deserialize<'de> for CreateBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Either record ignores what belongs to the other; flattened, they would not know each other's fields.
        let document = serde_json::Value::deserialize(deserializer)?;
        let error = serde::de::Error::custom::<serde_json::Error>;
        let config = crate::json::from_value(document.clone()).map_err(error)?;
        let Beside { host_config, networking_config } = crate::json::from_value(document).map_err(error)?;
        Ok(CreateBody { config, host_config, networking_config })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_reads_as_the_zero_value() {
        let body: CreateBody = serde_json::from_str(
            r#"{"Image":"busybox","Cmd":null,"Labels":null,"Env":null,
                "HostConfig":{"Binds":null,"PortBindings":{"80/tcp":null},"LogConfig":null,"ConsoleSize":null},
                "NetworkingConfig":{"EndpointsConfig":{"bridge":null}}}"#,
        )
        .unwrap();
        assert_eq!(body.config.image, "busybox");
        assert_eq!(body.config.cmd, None);
        assert_eq!(body.host_config.port_bindings.unwrap()["80/tcp"], None);
        assert_eq!(body.networking_config.endpoints_config["bridge"], None);
    }

    #[test]
    fn a_command_may_be_one_string() {
        let config: Config = serde_json::from_str(r#"{"Cmd":"true","Entrypoint":["a","b"]}"#).unwrap();
        assert_eq!(config.cmd.unwrap().0, ["true"]);
        assert_eq!(config.entrypoint.unwrap().0, ["a", "b"]);
    }

    #[test]
    fn names_that_are_no_plain_pascal_case_keep_docker_s_spelling() {
        let json = serde_json::to_value(HostConfig::default()).unwrap();
        for name in [
            "ContainerIDFile",
            "UTSMode",
            "BlkioDeviceReadIOps",
            "IOMaximumIOps",
            "IOMaximumBandwidth",
            "NanoCpus",
            "CpusetCpus",
            "OomScoreAdj",
            "MaskedPaths",
            "CgroupnsMode",
            "ShmSize",
            "PidsLimit",
            "Ulimits",
            "Dns",
        ] {
            assert!(json.get(name).is_some(), "{name} is missing");
        }
        let endpoint = serde_json::to_value(EndpointSettings::default()).unwrap();
        for name in ["IPAMConfig", "NetworkID", "IPAddress", "GlobalIPv6PrefixLen", "DNSNames", "GwPriority"]
        {
            assert!(endpoint.get(name).is_some(), "{name} is missing");
        }
    }

    #[test]
    fn a_record_survives_its_own_json() {
        let mut config = HostConfig { memory: 1 << 20, ..HostConfig::default() };
        config.restart_policy.name = "on-failure".into();
        let back: HostConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(back, config);
    }
}
