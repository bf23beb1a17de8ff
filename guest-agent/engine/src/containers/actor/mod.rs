//! The task that owns a container: it alone changes its state, one command after the other, tells its events
//! in that order, and publishes each new record for everyone to read.

mod run;

use std::sync::Arc;
use std::time::Duration;

use runtime::Process;
use tokio::sync::{mpsc, oneshot};

use super::container::{Command, Container, Note, Purpose, Reply, Signalled};
use super::health::{self, Check, Monitor};
use super::launch::{self, Live};
use super::memory;
use super::networking;
use super::record::Record;
use super::remove;
use super::request::{RemoveOptions, Started, WaitCondition, WaitResult};
use super::restart::Backoff;
use super::spec::EndpointSettings;
use super::state::{Input, State};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::networks::Which;
use crate::signal;
use crate::time::Time;

struct Actor {
    engine: Engine,
    container: Arc<Container>,
    record: Record,
    waits: Vec<(WaitCondition, oneshot::Sender<WaitResult>)>,
    removals: Vec<(RemoveOptions, Reply<()>)>,
    backoff: Backoff,
    /// Counts runs, so that a late message about an earlier one is known.
    run: u64,
    /// It was ended only to be started again: no automatic removal.
    comes_again: bool,
    /// Its process was killed because the engine goes down.
    going_down: bool,
    /// Runs its health checks while it runs.
    monitor: Option<Monitor>,
    memory: Option<memory::Watch>,
}

/// What a container begins its life in this engine as.
pub(crate) enum Beginning {
    /// It doesn't run.
    Still,
    /// It runs: an engine before this one started it.
    Live(Process),
    /// It doesn't run, and its policy wants that it does.
    Due,
}

/// Starts a container's task.
pub(crate) fn spawn(
    engine: Engine,
    container: Arc<Container>,
    commands: mpsc::Receiver<Command>,
    beginning: Beginning,
) {
    let record = (*container.now()).clone();
    let actor = Actor {
        engine,
        container,
        record,
        waits: Vec::new(),
        removals: Vec::new(),
        backoff: Backoff::default(),
        run: 0,
        comes_again: false,
        going_down: false,
        monitor: None,
        memory: None,
    };
    tokio::spawn(actor.live(commands, beginning));
}

impl Actor {
    async fn live(mut self, mut commands: mpsc::Receiver<Command>, beginning: Beginning) {
        match beginning {
            Beginning::Still => {}
            Beginning::Live(process) => self.attach_streams(process),
            Beginning::Due => {
                if let Err(error) = self.start().await {
                    tracing::warn!("container {} can't be started again: {error}", self.record.name);
                }
            }
        }
        while let Some(command) = commands.recv().await {
            self.handle(command).await;
            if self.record.state == State::Removing {
                break;
            }
        }
        for (_, sender) in self.waits.drain(..) {
            let _ = sender.send(WaitResult { status_code: i64::from(self.record.exit_code), error: None });
        }
    }

    async fn handle(&mut self, command: Command) {
        // A caller that has gone away doesn't undo what it asked for: answers may fall on deaf ears.
        match command {
            Command::Start(reply) => {
                let started = self.start_by_hand().await;
                let failed = started.is_err();
                let _ = reply.send(started);
                if failed && self.record.host_config.auto_remove && !self.record.state.lives() {
                    self.auto_remove().await;
                }
            }
            Command::Signal { signal, purpose, reply } => {
                let _ = reply.send(self.signal(signal, purpose));
            }
            Command::Pause(reply) => {
                let _ = reply.send(self.freeze(true).await);
            }
            Command::Unpause(reply) => {
                let _ = reply.send(self.freeze(false).await);
            }
            Command::Connect { network, settings, reply } => {
                let _ = reply.send(self.connect(&network, *settings).await);
            }
            Command::Disconnect { network, reply } => {
                let _ = reply.send(self.disconnect(&network).await);
            }
            Command::Rename { name, reply } => {
                let _ = reply.send(self.rename(&name));
            }
            Command::Remove { options, name, reply } => self.begin_removal(options, &name, reply).await,
            Command::Wait { condition, sender, subscribed } => {
                let stands = !self.record.state.lives() && self.record.state != State::Restarting;
                if condition == WaitCondition::NotRunning && stands {
                    let _ = sender.send(self.result());
                } else {
                    self.waits.push((condition, sender));
                }
                let _ = subscribed.send(());
            }
            Command::Ended { run, status } if run == self.run => self.ended(status).await,
            Command::RestartDue { run } if run == self.run && self.record.state == State::Restarting => {
                self.record.restart_count += 1;
                if let Err(error) = self.start().await {
                    tracing::warn!("container {} can't be started again: {error}", self.record.name);
                    self.tell_waits(WaitCondition::NextExit);
                }
            }
            Command::Ended { .. } | Command::RestartDue { .. } => {}
            Command::Update { host_config, reply } => {
                let _ = reply.send(self.update(&host_config).await);
            }
            Command::OutOfMemory { run } if run == self.run => self.out_of_memory(),
            Command::OutOfMemory { .. } => {}
            Command::Checked { run, result, heard } => {
                if run == self.run && self.monitor.is_some() {
                    self.checked(result);
                }
                let _ = heard.send(());
            }
            Command::Note(Note::Event { action, attributes }) => {
                let mut actor = self.record.actor([]);
                actor.attributes.extend(attributes.into_iter().map(|(name, value)| (name.to_owned(), value)));
                self.engine.inner().events.publish("container", action, actor);
            }
        }
    }

    fn event<const N: usize>(&self, action: &str, more: [(&str, String); N]) {
        self.engine.inner().events.publish("container", action, self.record.actor(more));
    }

    /// Shows and keeps the record as it is now.
    fn publish(&self) {
        let record = Arc::new(self.record.clone());
        self.engine.inner().store.put("container", &record.id, &*record);
        self.container.record.send_replace(record);
    }

    fn next(&mut self, input: Input) -> Result<()> {
        match self.record.state.next(input) {
            Ok(state) => {
                self.record.state = state;
                Ok(())
            }
            Err(denied) => Err(denied.explain(&self.record.id, &self.record.name)),
        }
    }

    fn result(&self) -> WaitResult {
        // Why a start failed is the start's own answer; told here too, the docker command would print it twice.
        WaitResult { status_code: i64::from(self.record.exit_code), error: None }
    }

    /// Answers the waits that `condition` fulfils: an end fulfils both kinds but that for the removal.
    fn tell_waits(&mut self, condition: WaitCondition) {
        let result = self.result();
        let waits = std::mem::take(&mut self.waits);
        for (wanted, sender) in waits {
            if condition == WaitCondition::Removed || wanted != WaitCondition::Removed {
                let _ = sender.send(result.clone());
            } else {
                self.waits.push((wanted, sender));
            }
        }
    }

    async fn start_by_hand(&mut self) -> Result<Started> {
        if matches!(self.record.state, State::Running { .. }) {
            return Ok(Started::Already);
        }
        self.record.restart_count = 0;
        self.backoff = Backoff::default();
        self.record.by_hand = false;
        self.start().await?;
        Ok(Started::Now)
    }

    async fn start(&mut self) -> Result<()> {
        // Asked before anything is done; the number is not known yet.
        if let Err(denied) = self.record.state.next(Input::Started { pid: 0 }) {
            return Err(denied.explain(&self.record.id, &self.record.name));
        }
        self.comes_again = false;
        let record = Arc::new(self.record.clone());
        match launch::launch(&self.engine, &self.container, &record).await {
            Ok(live) => self.started(live),
            Err(failed) => {
                self.record.exit_code = failed.exit_code;
                self.record.error.clone_from(&failed.error.message);
                self.record.finished_at = Time::now();
                self.next(Input::Failed)?;
                self.publish();
                self.container.hub.end();
                Err(failed.error)
            }
        }
    }

    fn started(&mut self, live: Live) -> Result<()> {
        let Live { process, endpoints, ports } = live;
        self.next(Input::Started { pid: process.pid() })?;
        self.record.started_at = Time::now();
        self.record.exit_code = 0;
        self.record.error.clear();
        self.record.oom_killed = false;
        self.record.endpoints = endpoints;
        self.record.ports = ports;
        self.record.health = Check::of(&self.record.config).map(|_| health::begin(self.record.health.take()));
        self.publish();
        for endpoint in &self.record.endpoints {
            self.network_event("connect", &endpoint.network);
        }
        self.event("start", []);
        self.attach_streams(process);
        Ok(())
    }

    fn network_event(&self, action: &str, id: &str) {
        let name = self.engine.networks().find(id).map(|network| network.name().to_owned());
        let attributes = [
            ("container".to_owned(), self.record.id.clone()),
            ("name".to_owned(), name.unwrap_or_default()),
            ("type".to_owned(), "bridge".to_owned()),
        ];
        let actor = crate::events::Actor { id: id.to_owned(), attributes: attributes.into() };
        self.engine.inner().events.publish("network", action, actor);
    }

    /// Joins one more network, at once when it runs.
    async fn connect(&mut self, network: &Which, settings: EndpointSettings) -> Result<()> {
        let name = network.name();
        networking::check_change(&self.record, network)?;
        if self.record.networks.contains_key(name) && self.record.state.lives() {
            return Err(Error::forbidden(format_args!(
                "endpoint with name {} already exists in network {name}",
                self.record.name
            )));
        }
        networking::check_none(&self.record, network)?;
        networking::check(network, &settings)?;
        let mut next = self.record.clone();
        Arc::make_mut(&mut next.networks).insert(name.to_owned(), settings);
        if self.record.state.lives() {
            networking::connect(&self.engine, &self.container, &mut next, network).await?;
        }
        self.record = next;
        self.publish();
        self.network_event("connect", &self.engine.networks().id(network));
        Ok(())
    }

    /// Leaves a network.
    async fn disconnect(&mut self, network: &Which) -> Result<()> {
        let name = network.name();
        networking::check_change(&self.record, network)?;
        if !self.record.networks.contains_key(name) {
            return Err(Error::forbidden(format_args!(
                "container {} is not connected to network {name}",
                self.record.id
            )));
        }
        let id = self.engine.networks().id(network);
        Arc::make_mut(&mut self.record.networks).remove(name);
        let place = self.record.endpoints.iter().find(|endpoint| endpoint.network == id).cloned();
        let left = match place {
            Some(endpoint) => {
                networking::disconnect(&self.engine, &self.container, &mut self.record, &endpoint).await
            }
            None => Ok(()),
        };
        self.publish();
        self.network_event("disconnect", &id);
        left
    }

    fn rename(&mut self, new: &str) -> Result<()> {
        let wish = new.strip_prefix('/').unwrap_or(new);
        if wish.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        if wish == self.record.name {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        let registry = &self.engine.inner().registry;
        let name = registry.name(Some(wish), &self.record.id).map_err(|error| Error {
            message: format!("Error when allocating new name: {}", error.message),
            ..error
        })?;
        let old = std::mem::replace(&mut self.record.name, name);
        registry.free_name(&old, &self.record.id);
        networking::rename(&self.engine, &mut self.record);
        self.publish();
        self.event("rename", [("oldName", format!("/{old}"))]);
        Ok(())
    }

    async fn begin_removal(&mut self, options: RemoveOptions, name: &str, reply: Reply<()>) {
        if options.force && (self.record.state.lives() || self.record.state == State::Restarting) {
            self.removals.push((options, reply));
            if self.removals.len() > 1 {
                return;
            }
            match self.signal(signal::KILL, Purpose::Kill) {
                Ok(Signalled::Sent) => return,
                Ok(_) => {}
                Err(error) => {
                    for (_, reply) in self.removals.drain(..) {
                        let _ = reply.send(Err(error.clone()));
                    }
                    return;
                }
            }
            self.after_end(false).await;
            return;
        }
        let outcome = match self.record.state.next(Input::Remove) {
            Ok(_) => self.remove(options).await,
            Err(denied) => Err(denied.explain(&self.record.id, name)),
        };
        let _ = reply.send(outcome);
    }

    /// Removes it; the task ends with it.
    async fn remove(&mut self, options: RemoveOptions) -> Result<()> {
        self.next(Input::Remove)?;
        self.container.record.send_replace(Arc::new(self.record.clone()));
        match remove::remove(&self.engine, &self.container, &self.record, options.volumes).await {
            Ok(()) => {
                self.event("destroy", []);
                self.tell_waits(WaitCondition::Removed);
                Ok(())
            }
            Err(error) => {
                self.next(Input::RemoveFailed)?;
                self.record.error.clone_from(&error.message);
                self.publish();
                Err(error)
            }
        }
    }
}

/// How long an end by SIGKILL may take before a caller is told that it didn't work.
pub(crate) const KILL_PATIENCE: Duration = Duration::from_secs(10);
