//! Records of the Engine API, cut down to the fields that the window and the command use.
//!
//! Names and spelling are Docker's, also towards TypeScript. Every field has a default, and `null` counts as
//! absent, because an engine may leave out what it doesn't know.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use ts_rs::TS;

/// `null` where a list or map was promised is Docker's way to say "empty".
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

macro_rules! records {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident : $type:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            $($(#[$fmeta])* #[serde(deserialize_with = "or_default")] pub $field: $type,)*
        }
    )*};
}

records! {
    /// A row of `GET /containers/json`.
    ContainerSummary {
        /// The full id.
        id: String,
        /// Names, each with a leading slash.
        names: Vec<String>,
        /// The image as it was named at creation.
        image: String,
        /// The image's id.
        #[serde(rename = "ImageID")]
        image_id: String,
        /// The command line, as one string.
        command: String,
        /// Creation, seconds since 1970.
        #[ts(type = "number")]
        created: i64,
        /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
        state: String,
        /// The state as a sentence: `Up 3 minutes`.
        status: String,
        /// Published and exposed ports.
        ports: Vec<Port>,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Mounts.
        mounts: Vec<MountPoint>,
        /// Bytes written in the container's layer, when asked for.
        #[ts(type = "number")]
        size_rw: i64,
        /// Network attachments.
        network_settings: SummaryNetworks,
    }
    /// The network part of a [`ContainerSummary`].
    SummaryNetworks {
        /// By network name.
        networks: BTreeMap<String, Endpoint>,
    }
    /// A port of a container.
    Port {
        /// Host address.
        #[serde(rename = "IP")]
        ip: String,
        /// Port in the container.
        private_port: u16,
        /// Port on the host; 0 when it isn't published.
        public_port: u16,
        /// `tcp`, `udp` or `sctp`.
        #[serde(rename = "Type")]
        protocol: String,
    }
    /// A mount of a container.
    MountPoint {
        /// `bind`, `volume`, `tmpfs`, …
        #[serde(rename = "Type")]
        kind: String,
        /// Volume name.
        name: String,
        /// Path on the engine's side.
        source: String,
        /// Path in the container.
        destination: String,
        /// Whether it may be written.
        #[serde(rename = "RW")]
        writable: bool,
    }
    /// A container's attachment to a network.
    Endpoint {
        /// Network id.
        #[serde(rename = "NetworkID")]
        network_id: String,
        /// IPv4 address.
        #[serde(rename = "IPAddress")]
        ip_address: String,
        /// Gateway.
        gateway: String,
        /// MAC address.
        mac_address: String,
    }
    /// `GET /containers/{id}/json`.
    ContainerInspect {
        /// The full id.
        id: String,
        /// Name with a leading slash.
        name: String,
        /// Creation, RFC 3339.
        created: String,
        /// The image's id.
        image: String,
        /// The program that runs.
        path: String,
        /// Its arguments.
        args: Vec<String>,
        /// Where it stands.
        state: ContainerState,
        /// Starts by the restart policy.
        #[ts(type = "number")]
        restart_count: i64,
        /// What was asked for.
        config: ContainerConfig,
        /// How it is run.
        host_config: HostConfig,
        /// Its mounts.
        mounts: Vec<MountPoint>,
        /// Its networks.
        network_settings: InspectNetworks,
    }
    /// The `State` of a container.
    ContainerState {
        /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
        status: String,
        /// Whether its process lives.
        running: bool,
        /// Whether it is frozen.
        paused: bool,
        /// Whether the kernel killed it for want of memory.
        #[serde(rename = "OOMKilled")]
        oom_killed: bool,
        /// Process id on the engine's side.
        #[ts(type = "number")]
        pid: i64,
        /// Exit code of the last run.
        #[ts(type = "number")]
        exit_code: i64,
        /// Why it didn't start.
        error: String,
        /// RFC 3339.
        started_at: String,
        /// RFC 3339.
        finished_at: String,
        /// Health, where a check is defined.
        health: Option<Health>,
    }
    /// The result of health checks.
    Health {
        /// `starting`, `healthy`, `unhealthy` or `none`.
        status: String,
        /// Failures in a row.
        #[ts(type = "number")]
        failing_streak: i64,
    }
    /// What a container was asked to be; also part of the body of a creation.
    ContainerConfig {
        /// Host name.
        #[serde(skip_serializing_if = "String::is_empty")]
        hostname: String,
        /// User, `name` or `uid:gid`.
        #[serde(skip_serializing_if = "String::is_empty")]
        user: String,
        /// Image reference.
        image: String,
        /// Command.
        #[serde(skip_serializing_if = "Option::is_none")]
        cmd: Option<Vec<String>>,
        /// Entry point.
        #[serde(skip_serializing_if = "Option::is_none")]
        entrypoint: Option<Vec<String>>,
        /// `NAME=value`.
        env: Vec<String>,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Working directory.
        #[serde(skip_serializing_if = "String::is_empty")]
        working_dir: String,
        /// Whether it has a terminal.
        tty: bool,
        /// Whether its standard input is kept open.
        open_stdin: bool,
        /// Exposed ports, `80/tcp`.
        exposed_ports: BTreeMap<String, Empty>,
    }
    /// An empty object.
    Empty {}
    /// How a container is run; also part of the body of a creation.
    HostConfig {
        /// `source:target[:options]`.
        binds: Vec<String>,
        /// `default`, `bridge`, `host`, `none`, `container:ID` or a network's name.
        #[serde(skip_serializing_if = "String::is_empty")]
        network_mode: String,
        /// By `80/tcp`.
        port_bindings: BTreeMap<String, Vec<PortBinding>>,
        /// What happens when it ends.
        restart_policy: RestartPolicy,
        /// Whether it is removed when it ends.
        auto_remove: bool,
        /// Memory limit in bytes; 0 for none.
        #[ts(type = "number")]
        memory: i64,
        /// Processor limit in billionths of a processor; 0 for none.
        #[ts(type = "number")]
        nano_cpus: i64,
        /// Whether it may do all that the engine may.
        privileged: bool,
    }
    /// Where a container's port is published.
    PortBinding {
        /// Host address; empty for all.
        host_ip: String,
        /// Host port as text; empty for any.
        host_port: String,
    }
    /// What happens when a container ends.
    RestartPolicy {
        /// `no`, `always`, `unless-stopped` or `on-failure`.
        name: String,
        /// Tries of `on-failure`.
        #[ts(type = "number")]
        maximum_retry_count: i64,
    }
    /// The network part of a [`ContainerInspect`].
    InspectNetworks {
        /// Published ports, by `80/tcp`; `null` for exposed ones.
        ports: BTreeMap<String, Option<Vec<PortBinding>>>,
        /// By network name.
        networks: BTreeMap<String, Endpoint>,
    }
    /// The answer to a creation.
    Created {
        /// The new container's id.
        id: String,
        /// What can't be done as asked.
        warnings: Vec<String>,
    }
    /// A row of `GET /images/json`.
    ImageSummary {
        /// `sha256:…`.
        id: String,
        /// `name:tag`.
        repo_tags: Vec<String>,
        /// `name@sha256:…`.
        repo_digests: Vec<String>,
        /// Creation, seconds since 1970.
        #[ts(type = "number")]
        created: i64,
        /// Bytes.
        #[ts(type = "number")]
        size: i64,
        /// Containers that use it; -1 when it wasn't counted.
        #[ts(type = "number")]
        containers: i64,
        /// Labels.
        labels: BTreeMap<String, String>,
    }
    /// `GET /images/{name}/json`.
    ImageInspect {
        /// `sha256:…`.
        id: String,
        /// `name:tag`.
        repo_tags: Vec<String>,
        /// `name@sha256:…`.
        repo_digests: Vec<String>,
        /// Creation, RFC 3339.
        created: String,
        /// `amd64`, `arm64`, …
        architecture: String,
        /// `linux`.
        os: String,
        /// Bytes.
        #[ts(type = "number")]
        size: i64,
        /// What containers of it get by default.
        config: ContainerConfig,
    }
    /// A row of `GET /images/{name}/history`.
    HistoryEntry {
        /// Image id, or `<missing>`.
        id: String,
        /// Seconds since 1970.
        #[ts(type = "number")]
        created: i64,
        /// The build step.
        created_by: String,
        /// Bytes that it added.
        #[ts(type = "number")]
        size: i64,
        /// Tags.
        tags: Vec<String>,
    }
    /// What a removal of an image did.
    ImageRemoved {
        /// A reference that is gone.
        untagged: Option<String>,
        /// An image or layer that is gone.
        deleted: Option<String>,
    }
    /// `GET /volumes`.
    VolumeList {
        /// The volumes.
        volumes: Vec<Volume>,
    }
    /// A volume.
    Volume {
        /// Its name.
        name: String,
        /// `local`.
        driver: String,
        /// Path on the engine's side.
        mountpoint: String,
        /// RFC 3339.
        created_at: String,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// `local`.
        scope: String,
        /// How much it holds, where counted.
        usage_data: Option<VolumeUsage>,
    }
    /// What a volume holds.
    VolumeUsage {
        /// Bytes; -1 when not counted.
        #[ts(type = "number")]
        size: i64,
        /// Containers that use it; -1 when not counted.
        #[ts(type = "number")]
        ref_count: i64,
    }
    /// A network.
    Network {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// RFC 3339.
        created: String,
        /// `bridge`, `host`, `null`, …
        driver: String,
        /// `local`.
        scope: String,
        /// Whether it has no way out.
        internal: bool,
        /// Addresses.
        #[serde(rename = "IPAM")]
        ipam: Ipam,
        /// Containers on it, by id; filled by inspect only.
        containers: BTreeMap<String, NetworkMember>,
        /// Labels.
        labels: BTreeMap<String, String>,
    }
    /// Addresses of a network.
    Ipam {
        /// Subnets.
        config: Vec<Subnet>,
    }
    /// A subnet of a network.
    Subnet {
        /// `172.17.0.0/16`.
        subnet: String,
        /// `172.17.0.1`.
        gateway: String,
    }
    /// A container on a network.
    NetworkMember {
        /// The container's name.
        name: String,
        /// Address with prefix length.
        #[serde(rename = "IPv4Address")]
        ipv4_address: String,
        /// MAC address.
        mac_address: String,
    }
    /// `GET /info`.
    Info {
        /// The engine's id.
        #[serde(rename = "ID")]
        id: String,
        /// Host name of the engine.
        name: String,
        /// Containers in all.
        #[ts(type = "number")]
        containers: i64,
        /// Containers that run.
        #[ts(type = "number")]
        containers_running: i64,
        /// Containers that are frozen.
        #[ts(type = "number")]
        containers_paused: i64,
        /// Containers that ended.
        #[ts(type = "number")]
        containers_stopped: i64,
        /// Images.
        #[ts(type = "number")]
        images: i64,
        /// Storage driver.
        driver: String,
        /// Kernel version.
        kernel_version: String,
        /// Operating system.
        operating_system: String,
        /// `x86_64`, `aarch64`.
        architecture: String,
        /// Processors.
        #[serde(rename = "NCPU")]
        #[ts(type = "number")]
        ncpu: i64,
        /// Bytes of memory.
        #[ts(type = "number")]
        mem_total: i64,
        /// Engine version.
        server_version: String,
        /// What doesn't work as it should.
        warnings: Vec<String>,
    }
    /// `GET /version`.
    Version {
        /// Engine version.
        version: String,
        /// Newest API version.
        api_version: String,
        /// Oldest API version.
        #[serde(rename = "MinAPIVersion")]
        min_api_version: String,
        /// Commit.
        git_commit: String,
        /// `linux`.
        os: String,
        /// `amd64`, `arm64`.
        arch: String,
        /// Kernel version.
        kernel_version: String,
    }
    /// `GET /system/df`.
    DiskUsage {
        /// Bytes of all layers, shared ones once.
        #[ts(type = "number")]
        layers_size: i64,
        /// Images.
        images: Vec<ImageSummary>,
        /// Containers.
        containers: Vec<ContainerSummary>,
        /// Volumes.
        volumes: Vec<Volume>,
    }
    /// What a wait saw.
    WaitResult {
        /// Exit code.
        #[ts(type = "number")]
        status_code: i64,
        /// Why waiting failed.
        error: Option<WaitError>,
    }
    /// Why waiting failed.
    WaitError {
        /// The reason.
        message: String,
    }
    /// What an event is about.
    EventActor {
        /// Id of the object.
        #[serde(rename = "ID")]
        id: String,
        /// Its attributes: name, image, exit code, labels…
        attributes: BTreeMap<String, String>,
    }
}

/// The body of `POST /containers/create`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateContainer {
    /// What it is.
    #[serde(flatten)]
    pub config: ContainerConfig,
    /// How it is run.
    pub host_config: HostConfig,
}

/// A line of `GET /events`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Event {
    /// `container`, `image`, `network`, `volume`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// `create`, `start`, `die`, …
    #[serde(rename = "Action")]
    pub action: String,
    /// What it is about.
    #[serde(rename = "Actor")]
    pub actor: EventActor,
    /// Seconds since 1970.
    #[ts(type = "number")]
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    #[ts(type = "number")]
    pub time_nano: i64,
}

/// A line of a pull's or load's progress.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Progress {
    /// What happens: `Downloading`, `Pull complete`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Layer, by its short id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How far.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub detail: Option<ProgressDetail>,
    /// Text for the user, by load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Why it failed; the last line then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How far a layer is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct ProgressDetail {
    /// Bytes done.
    #[ts(type = "number | null")]
    pub current: Option<i64>,
    /// Bytes in all.
    #[ts(type = "number | null")]
    pub total: Option<i64>,
}

/// Which stream of a container a piece of log came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of a container's log. Pieces follow the writes: a line may come in several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct LogChunk {
    /// Where it was written.
    pub stream: LogStream,
    /// The text; bytes that are no UTF-8 were replaced.
    pub text: String,
}

/// What of a log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct LogOptions {
    /// Go on with what is written from now on.
    pub follow: bool,
    /// Only the last lines.
    pub tail: Option<u32>,
    /// Begin each line with its time.
    pub timestamps: bool,
    /// Not before this time, seconds since 1970.
    #[ts(type = "number | null")]
    pub since: Option<i64>,
}
