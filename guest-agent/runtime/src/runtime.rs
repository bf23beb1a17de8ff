//! Starting containers and execs, and finding them again after a restart of the engine.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use supervisor::{Client, Held};

use crate::cgroup::{Cgroup, Hierarchy, Program};
use crate::error::{During, Failure, LaunchError, number};
use crate::host::HostFacts;
use crate::init::wire::{InitPlan, LaunchTask, ProgramPlan, Task};
use crate::plan::{ExecPlan, LaunchPlan, NamespaceMode, Namespaces, Rootfs, Stdio};
use crate::process::Process;
use crate::start::{Child, Streams};

/// How a runtime is made.
#[derive(Debug)]
pub struct RuntimeConfig {
    /// The cgroup, below the root of the hierarchy, that containers' cgroups are made in: one per engine.
    pub cgroup_parent: String,
    /// Who starts and reaps processes.
    pub supervisor: Client,
}

/// Starts containers. Every method but [`Process::wait`] blocks for as long as the kernel does.
#[derive(Debug, Clone)]
pub struct Runtime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    supervisor: Client,
    hierarchy: Option<Hierarchy>,
    host: HostFacts,
    /// The device program of containers without devices of their own.
    device_program: Option<Program>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: HashMap<String, Process>,
    execs: HashMap<String, Process>,
    /// What an engine before this one has started, by key.
    adoptable: HashMap<String, Held>,
}

/// Something still known to the supervisor that this engine has not adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// A container's first process.
    Container {
        /// The container's id.
        id: String,
    },
    /// An exec.
    Exec {
        /// The container's id.
        container: String,
        /// The exec's id.
        id: String,
    },
}

fn container_key(id: &str) -> String {
    format!("container/{id}")
}

fn exec_key(container: &str, id: &str) -> String {
    format!("exec/{container}/{id}")
}

fn parse_key(key: &str) -> Option<Leftover> {
    let mut parts = key.splitn(3, '/');
    match (parts.next()?, parts.next()?, parts.next()) {
        ("container", id, None) => Some(Leftover::Container { id: id.to_owned() }),
        ("exec", container, Some(id)) => {
            Some(Leftover::Exec { container: container.to_owned(), id: id.to_owned() })
        }
        _ => None,
    }
}

impl Runtime {
    /// Sets up the cgroup hierarchy and asks the supervisor what runs already.
    pub fn new(config: RuntimeConfig) -> io::Result<Runtime> {
        let RuntimeConfig { cgroup_parent, supervisor } = config;
        let hierarchy = Hierarchy::set_up(&cgroup_parent)?;
        let device_program = hierarchy.as_ref().and_then(|_| {
            Program::load(&[], &[])
                .inspect_err(|error| tracing::warn!(%error, "access to devices cannot be filtered"))
                .ok()
        });
        let host = HostFacts::gather(hierarchy.as_ref(), device_program.is_some());
        let adoptable = supervisor.held()?.into_iter().map(|held| (held.key.clone(), held)).collect();
        let state = Mutex::new(State { adoptable, ..State::default() });
        Ok(Runtime(Arc::new(Inner { supervisor, hierarchy, host, device_program, state })))
    }

    /// What this machine can do.
    pub fn host(&self) -> &HostFacts {
        &self.0.host
    }

    /// A container's cgroup, whether or not it exists yet.
    pub fn cgroup(&self, id: &str) -> Cgroup {
        let hierarchy = self.0.hierarchy.as_ref();
        Cgroup::new(
            hierarchy.map(|hierarchy| hierarchy.cgroup_path(id)),
            hierarchy.map(|hierarchy| hierarchy.controllers.clone()).unwrap_or_default(),
        )
    }

    /// Starts a container. Returns when its own program runs, or says why it does not; then nothing of it is left.
    pub fn launch(&self, plan: LaunchPlan, stdio: Stdio) -> Result<Process, LaunchError> {
        let failed = |failure| LaunchError { during: During::Create, failure };
        if plan.args.is_empty() {
            return Err(failed(Failure::InvalidPlan { message: "no command specified".to_owned() }));
        }
        let id = plan.id.clone();
        let cgroup = self.cgroup(&id);
        let process = self.launch_in(plan, stdio, &cgroup).map_err(|failure| {
            if let Err(error) = cgroup.remove() {
                tracing::warn!(%id, %error, "the cgroup of a container that did not start is left");
            }
            failed(failure)
        })?;
        self.state().running.insert(id, process.clone());
        Ok(process)
    }

    fn launch_in(&self, plan: LaunchPlan, stdio: Stdio, cgroup: &Cgroup) -> Result<Process, Failure> {
        let (cgroup_fd, filtered) = self.set_up_cgroup(&plan, cgroup)?;
        let (namespaces, pid_namespace, pass, joins) = split_namespaces(plan.namespaces);
        let key = container_key(&plan.id);
        let has = |kind: libc::c_int| namespaces & kind as u64 != 0;
        let init = InitPlan {
            task: Task::Launch(Box::new(LaunchTask {
                private_cgroup: has(libc::CLONE_NEWCGROUP),
                private_net: has(libc::CLONE_NEWNET),
                private_uts: has(libc::CLONE_NEWUTS),
                private_ipc: has(libc::CLONE_NEWIPC),
                joins,
                rootfs: plan.rootfs,
                readonly_rootfs: plan.readonly_rootfs,
                no_device_nodes: !filtered && !plan.privileged,
                hostname: plan.hostname,
                domainname: plan.domainname,
                mounts: plan.mounts,
                masked_paths: plan.masked_paths,
                readonly_paths: plan.readonly_paths,
                devices: plan.devices,
                sysctls: plan.sysctls,
                shm_size: plan.shm_size,
                init: plan.init,
                privileged: plan.privileged,
            })),
            program: ProgramPlan {
                args: plan.args,
                env: plan.env,
                cwd: plan.cwd,
                user: plan.user,
                capabilities: plan.capabilities,
                no_new_privileges: plan.no_new_privileges,
                seccomp: plan.seccomp,
                rlimits: plan.rlimits,
                oom_score_adj: plan.oom_score_adj,
                terminal: terminal_of(stdio),
            },
        };
        let child = Child {
            id: plan.id,
            key,
            // The cgroup namespace is made by container-init: clone would root it in the supervisor's cgroup.
            namespaces: namespaces & !(libc::CLONE_NEWCGROUP as u64),
            cgroup: cgroup_fd,
            pid_namespace,
            pass,
        };
        child.start(&self.0.supervisor, &init, Streams::open(stdio)?)
    }

    /// Makes the cgroup with its limits; says also whether access to devices is filtered.
    fn set_up_cgroup(&self, plan: &LaunchPlan, cgroup: &Cgroup) -> Result<(Option<OwnedFd>, bool), Failure> {
        let refused = |path: PathBuf, error: io::Error| Failure::Cgroup { path, errno: number(&error) };
        let path = || cgroup.path().map(ToOwned::to_owned).unwrap_or_default();
        if !cgroup.create().map_err(|error| refused(path(), error))? {
            return Ok((None, false));
        }
        cgroup.update(&plan.resources).map_err(|(path, error)| refused(path, error))?;
        let directory = cgroup.open().map_err(|error| refused(path(), error))?;
        let filtered = match &self.0.device_program {
            None => false,
            Some(_) if plan.privileged => true,
            Some(standard) => {
                self.attach_device_program(standard, plan, &directory)
                    .map_err(|error| refused(path(), error))?;
                true
            }
        };
        Ok((Some(directory), filtered))
    }

    fn attach_device_program(
        &self,
        standard: &Program,
        plan: &LaunchPlan,
        directory: &OwnedFd,
    ) -> io::Result<()> {
        use std::os::fd::AsFd as _;
        // Attaching needs a descriptor that is open for reading.
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let directory = rustix::fs::openat(directory, ".", flags, rustix::fs::Mode::empty())?;
        if plan.devices.is_empty() && plan.device_rules.is_empty() {
            return standard.attach(directory.as_fd());
        }
        Program::load(&plan.devices, &plan.device_rules)?.attach(directory.as_fd())
    }

    /// Starts one more process in a running container.
    pub fn exec(&self, plan: ExecPlan, stdio: Stdio) -> Result<Process, LaunchError> {
        let failed = |failure| LaunchError { during: During::Exec, failure };
        if plan.args.is_empty() {
            return Err(failed(Failure::InvalidPlan { message: "no exec command specified".to_owned() }));
        }
        let container = self.state().running.get(&plan.container).cloned();
        let Some(container) = container.filter(|process| process.exit_status().is_none()) else {
            return Err(failed(Failure::NotRunning));
        };
        let id = plan.id.clone();
        let process = self.exec_in(plan, stdio, &container).map_err(failed)?;
        self.state().execs.insert(id, process.clone());
        Ok(process)
    }

    fn exec_in(&self, plan: ExecPlan, stdio: Stdio, container: &Process) -> Result<Process, Failure> {
        let gone = |_| Failure::NotRunning;
        let key = exec_key(&plan.container, &plan.id);
        let init = InitPlan {
            task: Task::Exec { namespaces: other_namespaces(container).map_err(gone)? },
            program: ProgramPlan {
                args: plan.args,
                env: plan.env,
                cwd: plan.cwd,
                user: plan.user,
                capabilities: plan.capabilities,
                no_new_privileges: plan.no_new_privileges,
                seccomp: plan.seccomp,
                rlimits: plan.rlimits,
                oom_score_adj: plan.oom_score_adj,
                terminal: terminal_of(stdio),
            },
        };
        let pidfd = || container.pidfd().try_clone_to_owned().map_err(Failure::step("duplicating a pidfd"));
        let child = Child {
            id: plan.id,
            key,
            namespaces: 0,
            cgroup: self.exec_cgroup(&plan.container, container),
            pid_namespace: Some(pidfd()?),
            pass: vec![pidfd()?],
        };
        child.start(&self.0.supervisor, &init, Streams::open(stdio)?)
    }

    /// The cgroup for an exec: the container's, or, when the container has made cgroups of its own below it (which
    /// forbids processes in it), that of its first process.
    fn exec_cgroup(&self, id: &str, container: &Process) -> Option<OwnedFd> {
        let cgroup = self.cgroup(id);
        let hierarchy = self.0.hierarchy.as_ref()?;
        let enabled =
            cgroup.path().ok().map(|path| std::fs::read_to_string(path.join("cgroup.subtree_control")));
        if !matches!(enabled, Some(Ok(enabled)) if !enabled.trim().is_empty()) {
            return cgroup.open().ok();
        }
        let memberships = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).ok()?;
        let own = memberships.lines().find_map(|line| line.strip_prefix("0::/"))?;
        Cgroup::new(Some(hierarchy.mount.join(own)), Vec::new()).open().ok()
    }

    /// A container that an engine before this one has started, or that this one has.
    /// Its exit status, if it has ended meanwhile, is there already.
    pub fn adopt(&self, id: &str) -> Option<Process> {
        let mut state = self.state();
        if let Some(process) = state.running.get(id) {
            return Some(process.clone());
        }
        let held = state.adoptable.remove(&container_key(id))?;
        let process = self.take_over(id, held)?;
        state.running.insert(id.to_owned(), process.clone());
        Some(process)
    }

    /// An exec that an engine before this one has started.
    pub fn adopt_exec(&self, container: &str, id: &str) -> Option<Process> {
        let mut state = self.state();
        if let Some(process) = state.execs.get(id) {
            return Some(process.clone());
        }
        let held = state.adoptable.remove(&exec_key(container, id))?;
        let process = self.take_over(id, held)?;
        state.execs.insert(id.to_owned(), process.clone());
        Some(process)
    }

    fn take_over(&self, id: &str, held: Held) -> Option<Process> {
        Process::from_held(id.to_owned(), held, self.0.supervisor.clone())
            .inspect_err(|error| tracing::error!(%id, %error, "a running process cannot be adopted"))
            .ok()
    }

    /// What the supervisor holds and nobody has adopted.
    pub fn leftovers(&self) -> Vec<Leftover> {
        self.state().adoptable.keys().filter_map(|key| parse_key(key)).collect()
    }

    /// Ends and forgets what nobody has adopted, and removes cgroups of containers that do not run.
    /// For the end of the engine's recovery.
    pub fn discard_leftovers(&self) -> io::Result<()> {
        let leftovers = std::mem::take(&mut self.state().adoptable);
        for key in leftovers.keys() {
            tracing::warn!(%key, "ending a process that belongs to no known container");
            self.0.supervisor.discard(key)?;
        }
        let Some(hierarchy) = &self.0.hierarchy else { return Ok(()) };
        for entry in std::fs::read_dir(&hierarchy.parent)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() && !self.state().running.contains_key(&name) {
                self.cgroup(&name).remove()?;
            }
        }
        Ok(())
    }

    /// Forgets a container that has ended and whose exit status is recorded: kills what it left behind and removes
    /// its cgroup. `EBUSY` while its first process lives.
    pub fn release(&self, id: &str) -> io::Result<()> {
        self.release_key(&container_key(id))?;
        self.state().running.remove(id);
        self.cgroup(id).remove()
    }

    /// Forgets an exec that has ended and whose exit status is recorded.
    pub fn release_exec(&self, container: &str, id: &str) -> io::Result<()> {
        self.release_key(&exec_key(container, id))?;
        self.state().execs.remove(id);
        Ok(())
    }

    fn release_key(&self, key: &str) -> io::Result<()> {
        match self.0.supervisor.release(key) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            result => result,
        }
    }

    /// The root file system of a container that does not run, as a detached mount: it exists for as long as the
    /// descriptor does. Work in it by `openat2` with `RESOLVE_IN_ROOT`. For a running one see [`Process::root`].
    pub fn mount_rootfs(&self, rootfs: &Rootfs) -> io::Result<OwnedFd> {
        crate::init::overlay::mount(rootfs)
    }

    /// An image's layers, the top one first, as a detached read-only mount.
    pub fn mount_layers(&self, layers: &[PathBuf]) -> io::Result<OwnedFd> {
        crate::init::overlay::mount_layers(layers)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn terminal_of(stdio: Stdio) -> Option<(u16, u16)> {
    match stdio {
        Stdio::Pipes { .. } => None,
        Stdio::Terminal { width, height } => Some((width, height)),
    }
}

/// Clone flags; the PID namespace to be born in; namespaces to join, and their kinds.
fn split_namespaces(namespaces: Namespaces) -> (u64, Option<OwnedFd>, Vec<OwnedFd>, Vec<u64>) {
    let Namespaces { pid, ipc, uts, net, cgroup } = namespaces;
    let mut flags = libc::CLONE_NEWNS as u64;
    let (mut pass, mut joins) = (Vec::new(), Vec::new());
    for (mode, kind) in [
        (ipc, libc::CLONE_NEWIPC),
        (uts, libc::CLONE_NEWUTS),
        (net, libc::CLONE_NEWNET),
        (cgroup, libc::CLONE_NEWCGROUP),
    ] {
        match mode {
            NamespaceMode::Private => flags |= kind as u64,
            NamespaceMode::Host => {}
            NamespaceMode::Join(fd) => {
                pass.push(fd);
                joins.push(kind as u64);
            }
        }
    }
    let pid_namespace = match pid {
        NamespaceMode::Private => {
            flags |= libc::CLONE_NEWPID as u64;
            None
        }
        NamespaceMode::Host => None,
        NamespaceMode::Join(fd) => Some(fd),
    };
    (flags, pid_namespace, pass, joins)
}

/// The namespaces in which a container differs from the engine; joining one's own user namespace is an error.
fn other_namespaces(container: &Process) -> io::Result<u64> {
    let kinds = [
        ("mnt", libc::CLONE_NEWNS),
        ("uts", libc::CLONE_NEWUTS),
        ("ipc", libc::CLONE_NEWIPC),
        ("net", libc::CLONE_NEWNET),
        ("cgroup", libc::CLONE_NEWCGROUP),
        ("user", libc::CLONE_NEWUSER),
    ];
    let mut other = 0;
    for (name, kind) in kinds {
        let own = std::fs::metadata(format!("/proc/self/ns/{name}"))?;
        let theirs = std::fs::metadata(format!("/proc/{}/ns/{name}", container.pid()))?;
        if (own.dev(), own.ino()) != (theirs.dev(), theirs.ino()) {
            other |= kind as u64;
        }
    }
    // Only now is it sure that the number was still this container's.
    sys::signal::send_to(container.pidfd(), 0)?;
    Ok(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_what_was_started() {
        let container = parse_key(&container_key("abc"));
        assert_eq!(container, Some(Leftover::Container { id: "abc".to_owned() }));
        let exec = parse_key(&exec_key("abc", "def"));
        assert_eq!(exec, Some(Leftover::Exec { container: "abc".to_owned(), id: "def".to_owned() }));
        assert_eq!(parse_key("other"), None);
    }
}
