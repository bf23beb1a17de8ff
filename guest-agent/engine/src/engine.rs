//! The engine: one handle through which everything is asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;

use crate::config::EngineConfig;
use crate::containers::archive::{self, ExtractOptions, PathStat};
use crate::containers::changes::{self, Change};
use crate::containers::commit::{self, CommitRequest};
use crate::containers::container::{Command, Container, Purpose, Signalled};
use crate::containers::record::Record;
use crate::containers::request::{
    AttachOptions, Attachment, BoxStream, CreateRequest, Created, ExecConfig, ExecStart, ListOptions,
    LogOptions, Logs, RemoveOptions, Started, Stopped, WaitCondition, Waiting,
};
use crate::containers::spec::HostConfig;
use crate::containers::state::State;
use crate::containers::update::Updated;
use crate::containers::view::{ContainerInspect, ContainerSummary, ExecInspect, Top};
use crate::containers::{actor, create, exec, input, launch, list, observe, registry};
use crate::error::{Error, Result};
use crate::events::{Bus, Event, EventFilter};
use crate::filters::Filters;
use crate::images::Images;
use crate::networks::{Builtin, Networks};
use crate::store::Store;
use crate::system::{DiskUsage, SystemInfo, VersionInfo};
use crate::volumes::{Mounted, Table, Volumes};
use crate::{info, recover, signal};

/// How long a container may take to stop when nobody says.
const STOP_TIMEOUT: i64 = 10;

/// The engine. A clone is another handle to the same one.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

/// What the engine's parts share.
pub(crate) struct Inner {
    pub(crate) config: EngineConfig,
    pub(crate) id: String,
    pub(crate) cpus: usize,
    pub(crate) store: Store,
    pub(crate) events: Bus,
    pub(crate) registry: registry::Registry,
    pub(crate) execs: exec::Execs,
    pub(crate) images: image::Store,
    pub(crate) registries: image::RegistryConfig,
    pub(crate) runtime: runtime::Runtime,
    /// None when the engine was started without a bridge.
    pub(crate) networks: Option<network::Networks>,
    pub(crate) builtin: Builtin,
    pub(crate) user_networks: crate::networks::Table,
    pub(crate) volumes: Table,
    pub(crate) mounted: Mounted,
    pub(crate) seccomp: launch::Filters,
    /// A directory per container.
    pub(crate) containers: PathBuf,
    /// A directory per volume.
    pub(crate) volume_root: PathBuf,
    /// What is being removed.
    pub(crate) trash: PathBuf,
    /// The empty directory at which every container has its root.
    pub(crate) mountpoint: PathBuf,
}

/// The answer to `POST /containers/prune`.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainersPruned {
    /// What went.
    pub containers_deleted: Option<Vec<String>>,
    /// Bytes given back.
    pub space_reclaimed: u64,
}

impl Engine {
    /// Opens the stores, takes over containers that still live and clears away what nobody owns.
    pub async fn start(config: EngineConfig) -> Result<Engine> {
        let (inner, records) =
            tokio::task::spawn_blocking(move || recover::open(config)).await.map_err(Error::system)??;
        let engine = Engine(Arc::new(inner));
        recover::adopt(&engine, records).await?;
        Ok(engine)
    }

    /// Stops containers (unless they are to go on) and lets go of everything else.
    pub async fn shutdown(&self, grace: Duration) {
        recover::shut_down(self, grace).await;
    }

    /// What it was started with.
    pub fn config(&self) -> &EngineConfig {
        &self.0.config
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The images' half.
    pub fn images(&self) -> Images {
        Images { engine: self.clone() }
    }

    /// The networks' half.
    pub fn networks(&self) -> Networks {
        Networks { engine: self.clone() }
    }

    /// The volumes' half.
    pub fn volumes(&self) -> Volumes {
        Volumes { engine: self.clone() }
    }

    fn container(&self, name: &str) -> Result<Arc<Container>> {
        self.0.registry.get(name)
    }

    /// Events, past and to come.
    pub fn events(&self, filter: EventFilter) -> Result<BoxStream<Arc<Event>>> {
        self.0.events.listen(filter)
    }

    /// What the engine says of itself and its machine.
    pub async fn info(&self) -> Result<SystemInfo> {
        Ok(info::info(self))
    }

    /// Its versions.
    pub fn version(&self) -> Result<VersionInfo> {
        Ok(info::version())
    }

    /// What is on the disk.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        info::disk_usage(self).await
    }

    /// `POST /containers/create`
    pub async fn create(&self, request: CreateRequest) -> Result<Created> {
        // A client that goes away must not leave half a container.
        let engine = self.clone();
        tokio::spawn(async move { create::create(&engine, request).await }).await.map_err(Error::system)?
    }

    /// `POST /containers/{name}/start`
    pub async fn start_container(&self, name: &str) -> Result<Started> {
        self.container(name)?.ask(Command::Start).await
    }

    /// `POST /containers/{name}/stop`; the container's own signal and timeout where none are given, a
    /// negative timeout waits for ever.
    pub async fn stop(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<Stopped> {
        let container = self.container(name)?;
        let signal = signal.filter(|text| !text.is_empty()).map(signal::parse).transpose()?;
        // The container is stopped whether or not the client waits for it.
        tokio::spawn(stop(container, signal, timeout, Purpose::Stop)).await.map_err(Error::system)?
    }

    /// `POST /containers/{name}/restart`
    pub async fn restart(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let container = self.container(name)?;
        let signal = signal.filter(|text| !text.is_empty()).map(signal::parse).transpose()?;
        let restarted = tokio::spawn(async move {
            stop(container.clone(), signal, timeout, Purpose::Restart).await?;
            container.ask(Command::Start).await?;
            container.note("restart", Vec::new()).await;
            Ok(())
        });
        restarted.await.map_err(Error::system)?
    }

    /// `POST /containers/{name}/kill`
    pub async fn kill(&self, name: &str, signal: Option<&str>) -> Result<()> {
        let container = self.container(name)?;
        let signal = signal.filter(|text| !text.is_empty()).map_or(Ok(signal::KILL), signal::parse)?;
        let purpose = Purpose::Kill;
        match container.ask(|reply| Command::Signal { signal, purpose, reply }).await? {
            Signalled::NotRunning => Err(Error::conflict(format_args!(
                "cannot kill container: {name}: container {} is not running",
                container.id
            ))),
            Signalled::Cancelled => Ok(()),
            // A kill that can't be ignored is answered when it is done, as dockerd does.
            Signalled::Sent if signal == signal::KILL => {
                let mut states = container.record.subscribe();
                let _ = tokio::time::timeout(
                    actor::KILL_PATIENCE,
                    states.wait_for(|record| !record.state.lives()),
                )
                .await;
                Ok(())
            }
            Signalled::Sent => Ok(()),
        }
    }

    /// `POST /containers/{name}/pause`
    pub async fn pause(&self, name: &str) -> Result<()> {
        self.container(name)?.ask(Command::Pause).await
    }

    /// `POST /containers/{name}/unpause`
    pub async fn unpause(&self, name: &str) -> Result<()> {
        self.container(name)?.ask(Command::Unpause).await
    }

    /// `POST /containers/{name}/rename`
    pub async fn rename(&self, name: &str, new: &str) -> Result<()> {
        let new = new.to_owned();
        self.container(name)?.ask(|reply| Command::Rename { name: new, reply }).await
    }

    /// `DELETE /containers/{name}`
    pub async fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        if options.link {
            return Err(Error::not_implemented("legacy links are not available"));
        }
        let container = self.container(name)?;
        if container.now().state == State::Removing {
            return Err(Error::conflict(format_args!("removal of container {name} is already in progress")));
        }
        let name = name.strip_prefix('/').unwrap_or(name).to_owned();
        container.ask(|reply| Command::Remove { options, name, reply }).await
    }

    /// `POST /containers/prune`
    pub async fn prune(&self, filters: Filters) -> Result<ContainersPruned> {
        filters.accept(&["label", "label!", "until"])?;
        let mut pruned = ContainersPruned::default();
        for container in self.0.registry.all() {
            let record = container.now();
            let stands = matches!(record.state, State::Created | State::Exited | State::Dead);
            let old = filters.any("until", |text| {
                crate::time::Time::parse_query(text).is_some_and(|time| record.created < time)
            });
            if !stands || !filters.labels(&record.config.labels) || !old {
                continue;
            }
            let measured = container.clone();
            let size = tokio::task::spawn_blocking(move || crate::volumes::tree_size(&measured.upper()));
            let size = size.await.map_err(Error::system)?;
            if self.remove(&record.id, RemoveOptions::default()).await.is_ok() {
                pruned.containers_deleted.get_or_insert_default().push(record.id.clone());
                pruned.space_reclaimed += size;
            }
        }
        let attributes = [("reclaimed".to_owned(), pruned.space_reclaimed.to_string())].into();
        self.0.events.publish("container", "prune", crate::events::Actor { id: String::new(), attributes });
        Ok(pruned)
    }

    /// `POST /containers/{name}/wait`: subscribed when this returns.
    pub async fn wait(&self, name: &str, condition: WaitCondition) -> Result<Waiting> {
        self.container(name)?.wait(condition).await
    }

    /// `GET /containers/json`
    pub async fn list(&self, options: ListOptions) -> Result<Vec<ContainerSummary>> {
        if !options.size {
            return list::list(self, &options);
        }
        let engine = self.clone();
        tokio::task::spawn_blocking(move || list::list(&engine, &options)).await.map_err(Error::system)?
    }

    /// `GET /containers/{name}/json`
    pub async fn inspect(&self, name: &str, size: bool) -> Result<ContainerInspect> {
        let container = self.container(name)?;
        if !size {
            return Ok(list::inspect(self, &container, false));
        }
        let engine = self.clone();
        tokio::task::spawn_blocking(move || list::inspect(&engine, &container, true))
            .await
            .map_err(Error::system)
    }

    /// `GET /containers/{name}/logs`
    pub async fn logs(&self, name: &str, options: LogOptions) -> Result<Logs> {
        let container = self.container(name)?;
        if !options.stdout && !options.stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        let tty = container.now().config.tty;
        let Some(log) = &container.log else {
            return Err(Error::not_implemented("configured logging driver does not support reading"));
        };
        Ok(Logs { tty, output: crate::logs::read(log, options, container.lives.subscribe()) })
    }

    /// `POST /containers/{name}/attach`: subscribed when this returns.
    pub async fn attach(&self, name: &str, options: AttachOptions) -> Result<Attachment> {
        let container = self.container(name)?;
        let record = container.now();
        match record.state {
            State::Paused { .. } => {
                return Err(Error::conflict(format_args!(
                    "container {name} is paused, unpause the container before attach"
                )));
            }
            State::Restarting => {
                return Err(Error::conflict(format_args!(
                    "container {name} is restarting, wait until the container is running"
                )));
            }
            _ => {}
        }
        let tty = record.config.tty;
        let keys = input::detach_keys(options.detach_keys.as_deref().unwrap_or_default())?;
        let (live, ticket) = container.hub.join(options.stdout, options.stderr);
        let past = options.logs.then(|| container.log.as_ref()).flatten().map(|log| {
            let past = LogOptions { stdout: options.stdout, stderr: options.stderr, ..LogOptions::default() };
            crate::logs::read(log, past, watch::Sender::new(false).subscribe())
        });
        let input = (options.stream && options.stdin && record.config.open_stdin).then(|| {
            let keys = if tty { keys } else { Vec::new() };
            container.gate.open(record.config.stdin_once && !tty, keys, Some(ticket))
        });
        let output: BoxStream<_> = match (past, options.stream) {
            (Some(past), true) => Box::pin(past.chain(live)),
            (None, true) => live,
            (Some(past), false) => past,
            (None, false) => Box::pin(futures_util::stream::empty()),
        };
        container.note("attach", Vec::new()).await;
        Ok(Attachment { tty, output, input })
    }

    /// `POST /containers/{name}/resize`
    pub async fn resize(&self, name: &str, width: u16, height: u16) -> Result<()> {
        let container = self.container(name)?;
        let Some(process) = container.process() else {
            return Err(Error::conflict(format_args!("container {} is not running", container.id)));
        };
        process
            .resize(width, height)
            .map_err(|error| Error::io(format_args!("cannot resize {name}"), &error))?;
        let size = vec![("height", height.to_string()), ("width", width.to_string())];
        container.note("resize", size).await;
        Ok(())
    }

    /// `GET /containers/{name}/top`
    pub async fn top(&self, name: &str, arguments: &str) -> Result<Top> {
        observe::top(self, name, arguments).await
    }

    /// `GET /containers/{name}/stats`: one value for a one-shot, else one a second.
    pub async fn stats(
        &self,
        name: &str,
        stream: bool,
        one_shot: bool,
    ) -> Result<BoxStream<serde_json::Value>> {
        observe::stats(self, name, stream, one_shot)
    }

    /// `POST /containers/{name}/update`
    pub async fn update(&self, name: &str, host_config: HostConfig) -> Result<Updated> {
        let host_config = Box::new(host_config);
        self.container(name)?.ask(|reply| Command::Update { host_config, reply }).await
    }

    /// `HEAD /containers/{name}/archive`
    pub async fn archive_stat(&self, name: &str, path: &str) -> Result<PathStat> {
        archive::stat(self, name, path).await
    }

    /// `GET /containers/{name}/archive`: what is there, and a tar of it.
    pub async fn archive_get(
        &self,
        name: &str,
        path: &str,
    ) -> Result<(PathStat, BoxStream<std::io::Result<Bytes>>)> {
        archive::read(self, name, path).await
    }

    /// `PUT /containers/{name}/archive`
    pub async fn archive_put(
        &self,
        name: &str,
        options: ExtractOptions,
        archive: BoxStream<std::io::Result<Bytes>>,
    ) -> Result<()> {
        archive::write(self, name, options, archive).await
    }

    /// `GET /containers/{name}/export`: a tar of its root file system.
    pub async fn export(&self, name: &str) -> Result<BoxStream<std::io::Result<Bytes>>> {
        archive::export(self, name).await
    }

    /// `GET /containers/{name}/changes`
    pub async fn changes(&self, name: &str) -> Result<Vec<Change>> {
        changes::changes(self, name).await
    }

    /// `POST /commit`: the image's id.
    pub async fn commit(&self, request: CommitRequest) -> Result<String> {
        commit::commit(self, request).await
    }

    /// `POST /containers/{name}/exec`: the exec's id.
    pub async fn exec_create(&self, name: &str, config: ExecConfig) -> Result<String> {
        exec::create(self, name, config).await
    }

    /// `POST /exec/{id}/start`: the attachment, none when detached. A program that can't be run is told in
    /// the attachment's output, as dockerd does, so that an error here always precedes the upgrade.
    pub async fn exec_start(&self, id: &str, options: ExecStart) -> Result<Option<Attachment>> {
        exec::start(self, id, options).await
    }

    /// `GET /exec/{id}/json`
    pub async fn exec_inspect(&self, id: &str) -> Result<ExecInspect> {
        Ok(self.0.execs.get(id)?.inspect())
    }

    /// `POST /exec/{id}/resize`
    pub async fn exec_resize(&self, id: &str, width: u16, height: u16) -> Result<()> {
        self.0.execs.get(id)?.resize(width, height)
    }
}

/// Asks a container to end, and ends it when it doesn't in time.
async fn stop(
    container: Arc<Container>,
    signal: Option<i32>,
    timeout: Option<i64>,
    purpose: Purpose,
) -> Result<Stopped> {
    let record = container.now();
    let own = || signal::parse(&record.config.stop_signal).unwrap_or(signal::TERM);
    let signal = signal.unwrap_or_else(own);
    let patience = match timeout.or(record.config.stop_timeout).unwrap_or(STOP_TIMEOUT) {
        seconds @ 0.. => Some(Duration::from_secs(seconds.unsigned_abs())),
        _ => None,
    };
    let mut states = container.record.subscribe();
    match container.ask(|reply| Command::Signal { signal, purpose, reply }).await? {
        Signalled::NotRunning => return Ok(Stopped::Already),
        Signalled::Cancelled => {
            container.note("stop", Vec::new()).await;
            return Ok(Stopped::Now);
        }
        Signalled::Sent => {}
    }
    if !ends(&mut states, patience).await {
        let signal = signal::KILL;
        container.ask(|reply| Command::Signal { signal, purpose, reply }).await?;
        if !ends(&mut states, Some(actor::KILL_PATIENCE)).await {
            return Err(Error::system(format_args!(
                "cannot stop container: {}: tried to kill container, but did not receive an exit event",
                container.id
            )));
        }
    }
    container.note("stop", Vec::new()).await;
    Ok(Stopped::Now)
}

/// Whether the process ends in time. An automatic removal may take the container away meanwhile.
async fn ends(states: &mut watch::Receiver<Arc<Record>>, patience: Option<Duration>) -> bool {
    let ended = states.wait_for(|record| !record.state.lives());
    match patience {
        None => {
            let _ = ended.await;
            true
        }
        Some(patience) => tokio::time::timeout(patience, ended).await.is_ok(),
    }
}
