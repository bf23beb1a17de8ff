//! What the API shows of a container: the rows of `ps` and the body of inspect, in Docker's JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::spec::{Config, EndpointSettings, HostConfig, PortBinding};
use crate::time::Time;

/// One row of `GET /containers/json`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSummary {
    /// Whole id.
    pub id: String,
    /// Names, each with its slash.
    pub names: Vec<String>,
    /// The image as the client wrote it, or its id when the name means another one by now.
    pub image: String,
    /// The image's id.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// The command line.
    pub command: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Ports.
    pub ports: Vec<Port>,
    /// Bytes written to the container's own layer, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes of the whole root file system, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `created`, `running`, `paused`, `restarting`, `exited`, `removing`, `dead`.
    pub state: &'static str,
    /// `Up 3 minutes`, `Exited (0) 2 hours ago`.
    pub status: String,
    /// The part of the host's half that a list shows.
    pub host_config: SummaryHostConfig,
    /// The networks.
    pub network_settings: SummaryNetworks,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
}

/// The part of the host's half that a list shows.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SummaryHostConfig {
    /// The network mode.
    pub network_mode: String,
    /// Annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The networks in a list.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SummaryNetworks {
    /// Name → endpoint.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// A port in a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Port {
    /// Address on the host.
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Port in the container.
    #[serde(rename = "PrivatePort")]
    pub private_port: u16,
    /// Port on the host.
    #[serde(rename = "PublicPort", skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    /// `tcp`, `udp`, `sctp`.
    #[serde(rename = "Type")]
    pub protocol: String,
}

/// The body of `GET /containers/{name}/json`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerInspect {
    /// Whole id.
    pub id: String,
    /// When it was created.
    pub created: Time,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its state.
    pub state: StateView,
    /// The image's id.
    pub image: String,
    /// Where its resolv.conf is.
    pub resolv_conf_path: String,
    /// Where its hostname file is.
    pub hostname_path: String,
    /// Where its hosts file is.
    pub hosts_path: String,
    /// Where its log is.
    pub log_path: String,
    /// Name with its slash.
    pub name: String,
    /// How often the restart policy restarted it.
    pub restart_count: u64,
    /// Storage driver.
    pub driver: &'static str,
    /// Always `linux`.
    pub platform: &'static str,
    /// SELinux label; none.
    pub mount_label: String,
    /// SELinux label; none.
    pub process_label: String,
    /// AppArmor profile; none.
    pub app_armor_profile: String,
    /// Execs that run or wait to be started.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// The host's half.
    pub host_config: Arc<HostConfig>,
    /// Where its layers are.
    pub graph_driver: GraphDriver,
    /// Bytes of its own layer, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes of the whole root file system, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
    /// The portable half.
    pub config: Arc<Config>,
    /// Its networks.
    pub network_settings: NetworkSettings,
}

/// State in inspect.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StateView {
    /// The state's name.
    pub status: &'static str,
    /// It runs (also when paused or between restarts).
    pub running: bool,
    /// It is frozen.
    pub paused: bool,
    /// It waits to be restarted.
    pub restarting: bool,
    /// The kernel killed it for its memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// A removal failed half-way.
    pub dead: bool,
    /// Its first process, 0 when it doesn't run.
    pub pid: i32,
    /// Of the last run.
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    /// Last start.
    pub started_at: Time,
    /// Last end.
    pub finished_at: Time,
    /// Health, when it has a check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// What the health check found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: u64,
    /// The last five.
    pub log: Vec<HealthResult>,
}

/// One check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthResult {
    /// Begin.
    pub start: Time,
    /// End.
    pub end: Time,
    /// 0 is healthy.
    pub exit_code: i32,
    /// What it printed.
    pub output: String,
}

/// The layers' places.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    /// `LowerDir`, `UpperDir`, `WorkDir`, `MergedDir`.
    pub data: BTreeMap<String, String>,
    /// The driver's name.
    pub name: &'static str,
}

/// A mount in inspect and list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`, `image`.
    pub r#type: String,
    /// The volume's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// The volume's driver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// The options as given.
    pub mode: String,
    /// Writable.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// Propagation.
    pub propagation: String,
}

/// Networks in inspect.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSettings {
    /// The default bridge's link; empty as dockerd leaves it.
    pub bridge: String,
    /// The sandbox's id.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// The sandbox's path.
    pub sandbox_key: String,
    /// Published ports; `null` where only exposed.
    pub ports: BTreeMap<String, Option<Vec<PortBinding>>>,
    /// Never set.
    #[serde(rename = "HairpinMode")]
    pub hairpin_mode: bool,
    /// Never set.
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    /// Never set.
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: u8,
    /// Never set.
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: Option<Vec<String>>,
    /// Never set.
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: Option<Vec<String>>,
    /// Of the default bridge.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Of the default bridge.
    pub gateway: String,
    /// Of the default bridge.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Of the default bridge.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// Of the default bridge.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Of the default bridge.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// Of the default bridge.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Of the default bridge.
    pub mac_address: String,
    /// Name → endpoint.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// The body of `GET /containers/{name}/top`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Top {
    /// Column names.
    pub titles: Vec<String>,
    /// A row per process.
    pub processes: Vec<Vec<String>>,
}

/// The body of `GET /exec/{id}/json`.
#[derive(Debug, Clone, Serialize)]
pub struct ExecInspect {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// It runs.
    #[serde(rename = "Running")]
    pub running: bool,
    /// How it ended; `null` before that.
    #[serde(rename = "ExitCode")]
    pub exit_code: Option<i32>,
    /// What runs.
    #[serde(rename = "ProcessConfig")]
    pub process_config: ExecProcess,
    /// stdin is attached.
    #[serde(rename = "OpenStdin")]
    pub open_stdin: bool,
    /// stderr is attached.
    #[serde(rename = "OpenStderr")]
    pub open_stderr: bool,
    /// stdout is attached.
    #[serde(rename = "OpenStdout")]
    pub open_stdout: bool,
    /// It may be removed.
    #[serde(rename = "CanRemove")]
    pub can_remove: bool,
    /// The container's id.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// Keys that detach, as bytes; empty.
    #[serde(rename = "DetachKeys")]
    pub detach_keys: String,
    /// Its process id, 0 before the start.
    #[serde(rename = "Pid")]
    pub pid: i32,
}

/// What an exec runs.
#[derive(Debug, Clone, Serialize)]
pub struct ExecProcess {
    /// With a terminal.
    pub tty: bool,
    /// The program.
    pub entrypoint: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// With all rights.
    pub privileged: bool,
    /// As whom, when given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}
