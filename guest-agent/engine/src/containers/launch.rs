//! From a record to a running process: network, files, mounts and the plan for the runtime.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use network::{EndpointRecord, PortBinding};
use runtime::capabilities::CapSets;
use runtime::{
    Device, DeviceKind, DeviceRule, LaunchPlan, Mount as PlanMount, NamespaceKind, NamespaceMode, Namespaces,
    Process, Rlimit, Rootfs, Stdio, UserSpec,
};

use super::check;
use super::container::Container;
use super::networking::{self, Joined};
use super::record::Record;
use super::spec::HostConfig;
use super::{links, resolver};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// Where programs are looked for when nobody says.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A container that runs.
pub(crate) struct Live {
    pub(crate) process: Process,
    pub(crate) endpoints: Vec<EndpointRecord>,
    pub(crate) ports: Vec<PortBinding>,
}

/// A container that could not be started: what the client is told, and the exit code that inspect shows.
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) exit_code: i32,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed { error, exit_code: 128 }
    }
}

/// Starts a container. Nothing of it is left when it fails.
pub(crate) async fn launch(
    engine: &Engine,
    container: &Arc<Container>,
    record: &Arc<Record>,
) -> Result<Live, Failed> {
    let (Joined { endpoints, gateway }, netns) =
        networking::join(engine, record).await.map_err(networking::in_start)?;
    let mut bound = Vec::new();
    if let Some(gateway) = &gateway {
        match networking::publish(engine, record, gateway).await {
            Ok(ports) => bound = ports,
            Err(error) => {
                networking::leave(engine, &endpoints).await;
                return Err(error.into());
            }
        }
    }
    let task = {
        let (engine, container, record) = (engine.clone(), container.clone(), record.clone());
        let endpoints = endpoints.clone();
        tokio::task::spawn_blocking(move || {
            engine.volumes().hold(&record)?;
            let launched = plan(&engine, &container, &record, &endpoints, netns)
                .map_err(Failed::from)
                .and_then(|plan| {
                    engine.inner().runtime.launch(plan, stdio(&record)).map_err(|error| refused(&error))
                });
            if launched.is_err() {
                engine.volumes().release(&record);
            }
            launched
        })
    };
    let launched = match task.await {
        Ok(launched) => launched,
        Err(error) => Err(Error::system(format_args!("starting a container broke off: {error}")).into()),
    };
    match launched {
        Ok(process) => Ok(Live { process, endpoints, ports: bound }),
        Err(failed) => {
            networking::leave(engine, &endpoints).await;
            Err(failed)
        }
    }
}

/// A launch error in dockerd's words and with its codes.
fn refused(error: &runtime::LaunchError) -> Failed {
    let message = format!("failed to create task for container: failed to create shim task: {error}");
    let kind = if error.is_callers_fault() { Kind::InvalidParameter } else { Kind::System };
    let exit_code =
        i32::try_from(error.exit_code()).ok().filter(|code| matches!(code, 126 | 127)).unwrap_or(128);
    Failed { error: Error { kind, message }, exit_code }
}

fn stdio(record: &Record) -> Stdio {
    if record.config.tty {
        let [height, width] = record.host_config.console_size;
        let size = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        Stdio::Terminal { width: size(width), height: size(height) }
    } else {
        Stdio::Pipes { stdin: record.config.open_stdin }
    }
}

fn plan(
    engine: &Engine,
    container: &Container,
    record: &Record,
    endpoints: &[EndpointRecord],
    net: NamespaceMode,
) -> Result<LaunchPlan> {
    let (config, host) = (&*record.config, &*record.host_config);
    let rootfs = rootfs(engine, container, record)?;
    let mut plan = LaunchPlan::new(record.id.clone(), rootfs, record.command());
    let security = Security::of(host)?;
    let private_net = !matches!(net, NamespaceMode::Host);
    plan.env = links::environment(engine, record)?;
    plan.env.extend(environment(record));
    plan.cwd = if config.working_dir.is_empty() { "/".into() } else { config.working_dir.clone() };
    plan.user = UserSpec { user: config.user.clone(), groups: host.group_add.clone().unwrap_or_default() };
    if host.uts_mode != "host" {
        plan.hostname.clone_from(&config.hostname);
        plan.domainname.clone_from(&config.domainname);
    }
    plan.namespaces = namespaces(engine, host, net)?;
    plan.mounts = mounts(engine, container, record, endpoints)?;
    plan.masked_paths = host.masked_paths.clone().unwrap_or_default();
    plan.readonly_paths = host.readonly_paths.clone().unwrap_or_default();
    plan.readonly_rootfs = host.readonly_rootfs;
    let words =
        |words: &Option<super::spec::Words>| words.as_ref().map(|words| words.0.clone()).unwrap_or_default();
    plan.capabilities = CapSets::from(&words(&host.cap_add), &words(&host.cap_drop), host.privileged)
        .map_err(|error| Error::invalid(format_args!("invalid capability: {error}")))?;
    plan.no_new_privileges = security.no_new_privileges;
    plan.seccomp = security.filter(engine, host, &plan.capabilities)?;
    plan.resources = check::resources(host);
    plan.devices = devices(host)?;
    plan.device_rules = device_rules(host)?;
    plan.rlimits = rlimits(host);
    plan.sysctls = sysctls(host, private_net);
    plan.oom_score_adj = i32::try_from(host.oom_score_adj).ok().filter(|value| *value != 0);
    plan.init = host.init.unwrap_or(false);
    plan.privileged = host.privileged;
    plan.shm_size = u64::try_from(host.shm_size).unwrap_or(runtime::DEFAULT_SHM_SIZE);
    Ok(plan)
}

/// The layers of a container.
pub(crate) fn rootfs(engine: &Engine, container: &Container, record: &Record) -> Result<Rootfs> {
    let image = record.image_id.parse().map_err(|_| Error::system("the image's id is damaged"))?;
    let lowers = engine.inner().images.lower_dirs(&image).map_err(|error| crate::images::failure(&error))?;
    Ok(Rootfs {
        lowers,
        upper: container.upper(),
        work: container.work(),
        target: engine.inner().mountpoint.clone(),
    })
}

pub(crate) fn environment(record: &Record) -> Vec<String> {
    let own = record.config.env.as_deref().unwrap_or_default();
    let named = |name: &str| own.iter().any(|pair| pair.split('=').next() == Some(name));
    let mut env = Vec::with_capacity(own.len() + 3);
    if !named("PATH") {
        env.push(PATH.to_owned());
    }
    if !named("HOSTNAME") {
        env.push(format!("HOSTNAME={}", record.config.hostname));
    }
    if record.config.tty && !named("TERM") {
        env.push("TERM=xterm".to_owned());
    }
    // A name without a value means: take it away.
    env.extend(own.iter().filter(|pair| pair.contains('=')).cloned());
    env
}

fn namespaces(engine: &Engine, host: &HostConfig, net: NamespaceMode) -> Result<Namespaces> {
    let mode = |mode: &str, kind: NamespaceKind, what: &str| match mode {
        "host" => Ok(NamespaceMode::Host),
        mode => match mode.strip_prefix("container:") {
            None => Ok(NamespaceMode::Private),
            Some(name) => join(engine, name, kind, what).map(NamespaceMode::Join),
        },
    };
    Ok(Namespaces {
        pid: mode(&host.pid_mode, NamespaceKind::Pid, "PID")?,
        ipc: mode(&host.ipc_mode, NamespaceKind::Ipc, "IPC")?,
        uts: mode(&host.uts_mode, NamespaceKind::Uts, "UTS")?,
        cgroup: mode(&host.cgroupns_mode, NamespaceKind::Cgroup, "cgroup")?,
        net,
    })
}

fn join(engine: &Engine, name: &str, kind: NamespaceKind, what: &str) -> Result<OwnedFd> {
    let other = engine.inner().registry.get(name)?;
    let Some(process) = other.process() else {
        return Err(Error::conflict(format_args!(
            "cannot join {what} of a non running container: {}",
            other.id
        )));
    };
    if kind == NamespaceKind::Ipc && other.now().host_config.ipc_mode != "shareable" {
        return Err(Error::conflict(format_args!(
            "can't join IPC of container {name}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        )));
    }
    process.namespace(kind).map_err(|error| Error::io(format_args!("cannot join {what} of {name}"), &error))
}

fn mounts(
    engine: &Engine,
    container: &Container,
    record: &Record,
    endpoints: &[EndpointRecord],
) -> Result<Vec<PlanMount>> {
    let mut mounts = resolver::files(engine, container, record, endpoints)?;
    mounts.extend(shared_memory(engine, container, record)?);
    let own = |target: &Path| record.mounts.iter().any(|entry| Path::new(&entry.point.destination) == target);
    mounts.retain(|mount| !own(&mount.target));
    let socket = engine.config().api_socket.as_deref();
    for entry in record.mounts.iter() {
        let source = Path::new(&entry.point.source);
        if entry.make_source && !super::mounts::is_docker_socket(&entry.point.destination) && !source.exists()
        {
            fs::create_dir_all(source).map_err(|error| {
                Error::system(format_args!(
                    "error while creating mount source path '{}': {error}",
                    source.display()
                ))
            })?;
        }
        mounts.push(entry.plan(socket)?);
    }
    Ok(mounts)
}

/// What is at /dev/shm when that isn't the container's alone.
fn shared_memory(engine: &Engine, container: &Container, record: &Record) -> Result<Option<PlanMount>> {
    let mode = record.host_config.ipc_mode.as_str();
    let source = match mode.strip_prefix("container:") {
        Some(name) => engine.inner().registry.get(name)?.file("shm"),
        None if mode == "shareable" => container.file("shm"),
        None if mode == "host" => PathBuf::from("/dev/shm"),
        None => return Ok(None),
    };
    if !source.is_dir() {
        return Ok(None);
    }
    Ok(Some(PlanMount { kind: runtime::MountKind::bind(source), target: "/dev/shm".into(), readonly: false }))
}

/// What `SecurityOpt` says.
struct Security {
    no_new_privileges: bool,
    seccomp: Seccomp,
}

enum Seccomp {
    Standard,
    Unconfined,
    Profile(String),
}

impl Security {
    fn of(host: &HostConfig) -> Result<Security> {
        let mut security = Security { no_new_privileges: false, seccomp: Seccomp::Standard };
        for (index, text) in host.security_opt.iter().flatten().enumerate() {
            let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
            match (name, value) {
                ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
                ("no-new-privileges", "false") => security.no_new_privileges = false,
                ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
                ("seccomp", "builtin") => security.seccomp = Seccomp::Standard,
                ("seccomp", profile) if !profile.is_empty() => {
                    security.seccomp = Seccomp::Profile(profile.to_owned());
                }
                // The kernel has neither; dockerd takes them on such a kernel too.
                ("apparmor" | "label" | "systempaths" | "writable-cgroups", _) => {}
                _ => {
                    return Err(Error::invalid(format_args!(
                        "invalid --security-opt {}: \"{text}\"",
                        index + 1
                    )));
                }
            }
        }
        Ok(security)
    }

    fn filter(&self, engine: &Engine, host: &HostConfig, capabilities: &CapSets) -> Result<Option<Vec<u8>>> {
        if !engine.inner().runtime.host().seccomp {
            return Ok(None);
        }
        match &self.seccomp {
            Seccomp::Unconfined => Ok(None),
            Seccomp::Standard if host.privileged => Ok(None),
            Seccomp::Standard => Ok(Some(engine.inner().seccomp.standard(capabilities))),
            Seccomp::Profile(profile) => {
                runtime::seccomp::compile(profile, capabilities).map(Some).map_err(|error| {
                    let cause = std::error::Error::source(&error)
                        .map(|cause| format!(": {cause}"))
                        .unwrap_or_default();
                    Error::invalid(format_args!("{error}{cause}"))
                })
            }
        }
    }
}

/// Refuses security options that can't be meant, at create.
pub(crate) fn check_security(host: &HostConfig) -> Result<()> {
    Security::of(host)?;
    let words =
        |words: &Option<super::spec::Words>| words.as_ref().map(|words| words.0.clone()).unwrap_or_default();
    CapSets::from(&words(&host.cap_add), &words(&host.cap_drop), host.privileged)
        .map(drop)
        .map_err(|error| Error::invalid(format_args!("invalid capability: {error}")))
}

/// What an exec inherits of its container's rights.
pub(crate) fn exec_rights(
    engine: &Engine,
    host: &HostConfig,
    privileged: bool,
) -> Result<(CapSets, bool, Option<Vec<u8>>)> {
    let security = Security::of(host)?;
    let words =
        |words: &Option<super::spec::Words>| words.as_ref().map(|words| words.0.clone()).unwrap_or_default();
    let privileged = privileged || host.privileged;
    let capabilities = CapSets::from(&words(&host.cap_add), &words(&host.cap_drop), privileged)
        .map_err(|error| Error::invalid(format_args!("invalid capability: {error}")))?;
    let filter = if privileged { None } else { security.filter(engine, host, &capabilities)? };
    Ok((capabilities, security.no_new_privileges, filter))
}

fn devices(host: &HostConfig) -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    for mapping in host.devices.iter().flatten() {
        let inside = if mapping.path_in_container.is_empty() {
            &mapping.path_on_host
        } else {
            &mapping.path_in_container
        };
        let access = if mapping.cgroup_permissions.is_empty() { "rwm" } else { &mapping.cgroup_permissions };
        let found = Device::from_host(Path::new(&mapping.path_on_host), Path::new(inside), access);
        devices.extend(found.map_err(|error| no_device(&mapping.path_on_host, &error))?);
    }
    Ok(devices)
}

fn no_device(path: &str, error: &io::Error) -> Error {
    let what = if error.kind() == io::ErrorKind::NotFound {
        "no such file or directory"
    } else {
        "not a device node"
    };
    Error::invalid(format_args!(
        "error gathering device information while adding custom device \"{path}\": {what}"
    ))
}

/// Reads `c 1:3 rwm`.
fn device_rules(host: &HostConfig) -> Result<Vec<DeviceRule>> {
    host.device_cgroup_rules
        .iter()
        .flatten()
        .map(|rule| {
            let invalid = || Error::invalid(format_args!("invalid device cgroup rule format: '{rule}'"));
            let words: Vec<&str> = rule.split_ascii_whitespace().collect();
            let [kind, numbers, access] = words[..] else { return Err(invalid()) };
            let kind = match kind {
                "c" => Some(DeviceKind::Character),
                "b" => Some(DeviceKind::Block),
                "a" => None,
                _ => return Err(invalid()),
            };
            let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
            let number = |text: &str| match text {
                "*" => Ok(None),
                text => text.parse().map(Some).map_err(|_| invalid()),
            };
            Ok(DeviceRule { kind, major: number(major)?, minor: number(minor)?, access: access.to_owned() })
        })
        .collect()
}

pub(crate) fn rlimits(host: &HostConfig) -> Vec<Rlimit> {
    // -1 is "no limit" for Docker and all bits set for the kernel.
    let limit = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    host.ulimits
        .iter()
        .flatten()
        .map(|ulimit| Rlimit {
            name: ulimit.name.clone(),
            soft: limit(ulimit.soft),
            hard: limit(ulimit.hard),
        })
        .collect()
}

fn sysctls(host: &HostConfig, private_net: bool) -> Vec<(String, String)> {
    let mut sysctls: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    if private_net && !host.network_mode.starts_with("container:") {
        // dockerd's own: nobody needs to be root for low ports or ping in a namespace of his own.
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
        sysctls.insert("net.ipv4.ping_group_range".into(), "0 2147483647".into());
    }
    sysctls.extend(host.sysctls.clone().unwrap_or_default());
    sysctls.into_iter().collect()
}

/// Compiled filters of ordinary containers: one per set of capabilities.
#[derive(Default)]
pub(crate) struct Filters(std::sync::Mutex<Vec<(CapSets, Vec<u8>)>>);

impl Filters {
    fn standard(&self, capabilities: &CapSets) -> Vec<u8> {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, filter)) = known.iter().find(|(sets, _)| sets == capabilities) {
            return filter.clone();
        }
        let filter = runtime::seccomp::default_filter(capabilities, runtime::seccomp::Arch::NATIVE);
        // Clients may ask for many sets; a few are enough to remember.
        if known.len() == 16 {
            known.remove(1);
        }
        known.push((*capabilities, filter.clone()));
        filter
    }
}

/// Where a bound file of a container lies, for inspect.
pub(crate) fn file_path(container: &Container, name: &str) -> String {
    let path: PathBuf = container.file(name);
    path.to_string_lossy().into_owned()
}
