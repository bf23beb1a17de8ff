//! What a container or an exec is started from: plain data, handed down by the engine.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::capabilities::{CapSets, default_set};

/// Everything that a container is started from.
#[derive(Debug)]
pub struct LaunchPlan {
    /// The container's id; names its cgroup.
    pub id: String,
    /// The root file system.
    pub rootfs: Rootfs,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value` pairs, the whole environment.
    pub env: Vec<String>,
    /// Working directory; made when it is missing, as dockerd does.
    pub cwd: String,
    /// Who runs it.
    pub user: UserSpec,
    /// Host name; not set when empty or when the namespace is the host's.
    pub hostname: String,
    /// NIS domain name; likewise.
    pub domainname: String,
    /// Which namespaces it has to itself.
    pub namespaces: Namespaces,
    /// Mounts besides the standard ones, in order. One at the place of a standard one replaces it.
    pub mounts: Vec<Mount>,
    /// Paths to hide.
    pub masked_paths: Vec<String>,
    /// Paths to make read-only.
    pub readonly_paths: Vec<String>,
    /// Whether the root file system is read-only.
    pub readonly_rootfs: bool,
    /// What it may do.
    pub capabilities: CapSets,
    /// Whether set-user-ID programs give no rights.
    pub no_new_privileges: bool,
    /// A seccomp filter: the bytes of an array of `struct sock_filter`.
    pub seccomp: Option<Vec<u8>>,
    /// Limits.
    pub resources: Resources,
    /// Device nodes besides the standard ones.
    pub devices: Vec<Device>,
    /// More devices that it may use, without nodes (`--device-cgroup-rule`).
    pub device_rules: Vec<DeviceRule>,
    /// Limits of the process.
    pub rlimits: Vec<Rlimit>,
    /// `net.ipv4.ip_forward` = `1` and the like.
    pub sysctls: Vec<(String, String)>,
    /// How ready the kernel is to kill it when memory runs out.
    pub oom_score_adj: Option<i32>,
    /// Whether a small reaper of ours is PID 1 and the program its child (`--init`).
    pub init: bool,
    /// Whether it gets every device of the machine and writable /sys and cgroup trees.
    pub privileged: bool,
    /// Size of /dev/shm in bytes.
    pub shm_size: u64,
}

impl LaunchPlan {
    /// A plan with Docker's defaults: private namespaces, fourteen capabilities, masked paths.
    pub fn new(id: impl Into<String>, rootfs: Rootfs, args: Vec<String>) -> LaunchPlan {
        let strings = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        LaunchPlan {
            id: id.into(),
            rootfs,
            args,
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: UserSpec::default(),
            hostname: String::new(),
            domainname: String::new(),
            namespaces: Namespaces::default(),
            mounts: Vec::new(),
            masked_paths: strings(MASKED_PATHS),
            readonly_paths: strings(READONLY_PATHS),
            readonly_rootfs: false,
            capabilities: CapSets::uniform(default_set()),
            no_new_privileges: false,
            seccomp: None,
            resources: Resources::default(),
            devices: Vec::new(),
            device_rules: Vec::new(),
            rlimits: Vec::new(),
            sysctls: Vec::new(),
            oom_score_adj: None,
            init: false,
            privileged: false,
            shm_size: DEFAULT_SHM_SIZE,
        }
    }
}

/// One more process in a running container.
#[derive(Debug, Clone)]
pub struct ExecPlan {
    /// The exec's own id.
    pub id: String,
    /// The container's id.
    pub container: String,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<String>,
    /// Working directory, which must exist.
    pub cwd: String,
    /// Who runs it.
    pub user: UserSpec,
    /// What it may do.
    pub capabilities: CapSets,
    /// Whether set-user-ID programs give no rights.
    pub no_new_privileges: bool,
    /// A seccomp filter: the bytes of an array of `struct sock_filter`.
    pub seccomp: Option<Vec<u8>>,
    /// Limits of the process.
    pub rlimits: Vec<Rlimit>,
    /// How ready the kernel is to kill it when memory runs out.
    pub oom_score_adj: Option<i32>,
}

impl ExecPlan {
    /// A plan for root with Docker's default capabilities in `/`.
    pub fn new(id: impl Into<String>, container: impl Into<String>, args: Vec<String>) -> ExecPlan {
        ExecPlan {
            id: id.into(),
            container: container.into(),
            args,
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: UserSpec::default(),
            capabilities: CapSets::uniform(default_set()),
            no_new_privileges: false,
            seccomp: None,
            rlimits: Vec::new(),
            oom_score_adj: None,
        }
    }
}

/// The layers of a root file system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rootfs {
    /// The image's layers, the top one first. Without any, `upper` itself is bound as the root.
    pub lowers: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// Overlayfs's own directory, on the file system of `upper`.
    pub work: PathBuf,
    /// An existing directory to mount at. The mount is made in the container's own mount namespace, so that any
    /// number of containers can share one empty directory.
    pub target: PathBuf,
}

/// Who runs a program, to be looked up in the container's `/etc/passwd` and `/etc/group`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    /// `user`, `uid`, `user:group`, `uid:gid` and so on; empty is root.
    pub user: String,
    /// More groups, by name or number (`--group-add`).
    pub groups: Vec<String>,
}

/// Where a namespace comes from.
#[derive(Debug, Default)]
pub enum NamespaceMode {
    /// A new one.
    #[default]
    Private,
    /// The engine's.
    Host,
    /// An existing one: a file of `/proc/PID/ns`, or a pidfd of a process in it.
    Join(OwnedFd),
}

impl NamespaceMode {
    /// Whether a new one is made.
    pub fn is_private(&self) -> bool {
        matches!(self, NamespaceMode::Private)
    }
}

/// The namespaces of a container. The mount namespace is always its own.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Processes.
    pub pid: NamespaceMode,
    /// System V IPC and message queues.
    pub ipc: NamespaceMode,
    /// Host name.
    pub uts: NamespaceMode,
    /// Network. A private one has loopback up and nothing else.
    pub net: NamespaceMode,
    /// Cgroup tree.
    pub cgroup: NamespaceMode,
}

/// One mount in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where, as the container sees it. Missing directories (or the file, for a bound file) are made.
    pub target: PathBuf,
    /// Whether it is read-only, a bind with all mounts below it.
    pub readonly: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A directory or file of the engine's file system.
    Bind {
        /// It.
        source: PathBuf,
        /// A path within `source` that is bound instead and cannot lead out of it (`VolumeOptions.Subpath`).
        subpath: Option<PathBuf>,
        /// With the mounts below it.
        recursive: bool,
        /// Whether mounts made later on one side show on the other.
        propagation: Propagation,
        /// Leaves mounts below it writable when it is read-only (`BindOptions.ReadOnlyNonRecursive`).
        readonly_top_only: bool,
    },
    /// Memory.
    Tmpfs(TmpfsOptions),
    /// An image's files, which nobody can write.
    Layers {
        /// Its layers, the top one first.
        layers: Vec<PathBuf>,
        /// A path within it that is mounted instead and cannot lead out of it.
        subpath: Option<PathBuf>,
    },
}

impl MountKind {
    /// An ordinary bind: recursive, private.
    pub fn bind(source: impl Into<PathBuf>) -> MountKind {
        MountKind::Bind {
            source: source.into(),
            subpath: None,
            recursive: true,
            propagation: Propagation::Private,
            readonly_top_only: false,
        }
    }
}

/// How mounts travel between the two ends of a bind; recursive or not goes with the bind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// Into the container.
    Slave,
    /// Both ways.
    Shared,
}

/// A tmpfs's options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsOptions {
    /// `size=`, `mode=`, `uid=`, `gid=`, `nr_inodes=`, `nr_blocks=`, `mpol=`, `huge=` as the kernel takes them.
    pub data: Vec<(String, String)>,
    /// `noexec`.
    pub no_exec: bool,
    /// `nosuid`.
    pub no_suid: bool,
    /// `nodev`.
    pub no_dev: bool,
    /// `ro`.
    pub readonly: bool,
}

impl Default for TmpfsOptions {
    /// What `--tmpfs PATH` without options means.
    fn default() -> TmpfsOptions {
        TmpfsOptions { data: Vec::new(), no_exec: true, no_suid: true, no_dev: true, readonly: false }
    }
}

/// The option is none of tmpfs's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid tmpfs option [\"{0}\"]")]
pub struct InvalidTmpfsOption(pub String);

impl TmpfsOptions {
    /// Reads `--tmpfs PATH:options`; what is not said keeps its default.
    pub fn parse(options: &str) -> Result<TmpfsOptions, InvalidTmpfsOption> {
        const DATA: [&str; 8] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"];
        let mut parsed = TmpfsOptions::default();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "rw" => parsed.readonly = false,
                "ro" => parsed.readonly = true,
                "exec" => parsed.no_exec = false,
                "noexec" => parsed.no_exec = true,
                "suid" => parsed.no_suid = false,
                "nosuid" => parsed.no_suid = true,
                "dev" => parsed.no_dev = false,
                "nodev" => parsed.no_dev = true,
                // Harmless ones that mean nothing here or are the default.
                "async" | "defaults" | "atime" | "relatime" | "diratime" | "norelatime" | "noatime"
                | "nodiratime" | "strictatime" | "nostrictatime" | "private" | "rprivate" => {}
                _ => match option.split_once('=') {
                    Some((name, value)) if DATA.contains(&name) => {
                        parsed.data.push((name.to_owned(), value.to_owned()));
                    }
                    _ => return Err(InvalidTmpfsOption(option.to_owned())),
                },
            }
        }
        Ok(parsed)
    }
}

/// Limits on a container. `None` is no wish; for an update it leaves things as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes of memory; −1 is no limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together, as Docker counts; −1 is no limit on swap.
    pub memory_swap: Option<i64>,
    /// Bytes that it keeps under pressure.
    pub memory_reservation: Option<i64>,
    /// Relative weight, 2 to 262144, 1024 being normal.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU per period; −1 is no limit.
    pub cpu_quota: Option<i64>,
    /// The period in microseconds.
    pub cpu_period: Option<u64>,
    /// CPUs that it may use: `0-2,5`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that it may use.
    pub cpuset_mems: Option<String>,
    /// How many processes; −1 or 0 is no limit.
    pub pids: Option<i64>,
    /// Relative weight of input and output, 10 to 1000.
    pub io_weight: Option<u16>,
    /// The weight per device.
    pub io_weight_devices: Vec<DeviceLimit>,
    /// Bytes read per second and device.
    pub read_bps: Vec<DeviceLimit>,
    /// Bytes written per second and device.
    pub write_bps: Vec<DeviceLimit>,
    /// Reads per second and device.
    pub read_iops: Vec<DeviceLimit>,
    /// Writes per second and device.
    pub write_iops: Vec<DeviceLimit>,
}

/// A number for one block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimit {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Rate or weight.
    pub value: u64,
}

/// Character or block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// `c`.
    Character,
    /// `b`.
    Block,
}

/// A device node for the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its path in the container.
    pub path: PathBuf,
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What it may do with it: `r`, `w`, `m`.
    pub access: String,
}

impl Device {
    /// The device at `host`, or every device below it when it is a directory, for the path `container`.
    pub fn from_host(host: &Path, container: &Path, access: &str) -> io::Result<Vec<Device>> {
        let metadata = fs::metadata(host)?;
        if metadata.is_dir() {
            let mut devices = Vec::new();
            for entry in fs::read_dir(host)? {
                let entry = entry?;
                let file_type = entry.file_type()?;
                if file_type.is_dir() || file_type.is_block_device() || file_type.is_char_device() {
                    devices.extend(Device::from_host(
                        &entry.path(),
                        &container.join(entry.file_name()),
                        access,
                    )?);
                }
            }
            return Ok(devices);
        }
        let kind = if metadata.file_type().is_char_device() {
            DeviceKind::Character
        } else if metadata.file_type().is_block_device() {
            DeviceKind::Block
        } else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a device node"));
        };
        let number = metadata.rdev();
        Ok(vec![Device {
            path: container.to_owned(),
            kind,
            major: rustix::fs::major(number),
            minor: rustix::fs::minor(number),
            mode: metadata.mode() & 0o777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            access: access.to_owned(),
        }])
    }
}

/// Devices that a container may use. `None` stands for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    /// Character or block.
    pub kind: Option<DeviceKind>,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// `r`, `w`, `m`.
    pub access: String,
}

/// A limit of the process (`--ulimit`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `nofile`, `core` and so on, in any case, with or without `RLIMIT_`.
    pub name: String,
    /// The limit in force; `u64::MAX` is none.
    pub soft: u64,
    /// How far it may be raised.
    pub hard: u64,
}

/// How a process's standard streams are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// Pipes. Without `stdin` the program reads `/dev/null`.
    Pipes {
        /// Whether there is an input.
        stdin: bool,
    },
    /// A terminal of this size in characters; 0 × 0 when it is not known.
    Terminal {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
}

/// /dev/shm when nobody says otherwise: 64 MiB.
pub const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// What an unprivileged container does not see: kernel memory, keys, timings and hardware controls.
pub const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What it sees but cannot write to.
pub const READONLY_PATHS: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_options_change_the_defaults_and_nothing_else() {
        let options = TmpfsOptions::parse("rw,exec,size=65536k,mode=1777").unwrap();
        assert!(!options.no_exec && options.no_suid && options.no_dev && !options.readonly);
        let data: Vec<_> = options.data.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(data, ["size=65536k", "mode=1777"]);
        assert_eq!(TmpfsOptions::parse("source=/etc").unwrap_err().0, "source=/etc");
    }

    #[test]
    fn a_host_device_keeps_its_numbers() {
        let devices = Device::from_host(Path::new("/dev/null"), Path::new("/dev/nil"), "rw").unwrap();
        assert_eq!((devices[0].major, devices[0].minor), (1, 3));
        assert_eq!(devices[0].path, Path::new("/dev/nil"));
    }
}
