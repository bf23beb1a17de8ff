//! One run of a container: from its process to what follows its end.

use std::sync::Arc;

use runtime::{ExitStatus, Process};

use super::Actor;
use crate::containers::check;
use crate::containers::container::{Command, Purpose, Signalled};
use crate::containers::health::{self, Check, Monitor};
use crate::containers::memory;
use crate::containers::request::{RemoveOptions, WaitCondition};
use crate::containers::restart;
use crate::containers::spec::HostConfig;
use crate::containers::state::{Input, State};
use crate::containers::streams;
use crate::containers::update::{self, Updated};
use crate::containers::view::HealthResult;
use crate::error::{Error, Result};
use crate::signal;
use crate::time::Time;

/// Exit code of a process that a signal ended.
const SIGNALLED: i32 = 128;

impl Actor {
    /// Connects a process with the log and with clients, and watches for its end.
    pub(super) fn attach_streams(&mut self, process: Process) {
        self.run += 1;
        let run = self.run;
        let container = self.container.clone();
        container.set_process(Some(process.clone()));
        container.lives.send_replace(true);
        self.watch_health();
        self.memory = memory::Watch::start(&self.engine, &container, run);
        let ending = streams::join(process, &container.hub, &container.gate, container.log.as_ref());
        tokio::spawn(async move {
            let status = ending.await;
            let _ = container.commands.send(Command::Ended { run, status }).await;
        });
    }

    pub(super) fn out_of_memory(&mut self) {
        self.record.oom_killed = true;
        self.publish();
        self.event("oom", []);
    }

    pub(super) async fn update(&mut self, asked: &HostConfig) -> Result<Updated> {
        if matches!(self.record.state, State::Removing | State::Dead) {
            return Err(Error::conflict(format_args!(
                "Cannot update container {}: container is marked for removal and cannot be \"update\"",
                self.record.id
            )));
        }
        let refused = |message: String| format!("Cannot update container {}: {message}", self.record.id);
        let inner = self.engine.inner();
        let new = update::merge(&self.record.host_config, asked, inner.cpus)
            .map_err(|error| Error { message: refused(error.message), ..error })?;
        let warnings = inner.runtime.host().limit_warnings(&check::resources(asked));
        if self.record.state.lives() {
            let (cgroup, resources) = (inner.runtime.cgroup(&self.record.id), check::resources(&new));
            let applied = tokio::task::spawn_blocking(move || cgroup.update(&resources));
            applied.await.map_err(Error::system)?.map_err(|(path, error)| {
                Error::system(refused(format!("cannot write `{}`: {error}", path.display())))
            })?;
        }
        self.record.host_config = Arc::new(new);
        self.publish();
        self.event("update", []);
        Ok(Updated { warnings })
    }

    /// Begins the health checks of a run, or goes on with them.
    fn watch_health(&mut self) {
        let running = matches!(self.record.state, State::Running { .. });
        self.monitor = Check::of(&self.record.config)
            .filter(|_| running && self.record.health.is_some())
            .map(|check| Monitor::start(self.engine.clone(), self.container.clone(), self.run, check));
    }

    pub(super) fn checked(&mut self, result: HealthResult) {
        let (Some(check), Some(health)) = (Check::of(&self.record.config), &mut self.record.health) else {
            return;
        };
        let news = check.judge(health, self.record.started_at, result);
        self.publish();
        if let Some(status) = news {
            self.event(&format!("health_status: {status}"), []);
        }
    }

    pub(super) async fn ended(&mut self, status: ExitStatus) {
        self.monitor = None;
        self.memory = None;
        health::end(&mut self.record.health);
        let id = self.record.id.clone();
        let oom = self.engine.inner().runtime.cgroup(&id).oom_kills().unwrap_or(0) > 0;
        self.record.exit_code =
            status.code.unwrap_or_else(|| SIGNALLED + status.signal.unwrap_or(signal::KILL));
        self.record.finished_at = Time::from(status.at);
        // The watch may have been slower than the end.
        let untold = oom && !self.record.oom_killed;
        self.record.oom_killed = oom;
        let endpoints = std::mem::take(&mut self.record.endpoints);
        let again = !self.going_down
            && self.removals.is_empty()
            && restart::again(
                &self.record.host_config.restart_policy,
                self.record.ended(),
                self.record.restart_count,
            );
        // The supervisor may forget the exit status only when the journal has it.
        self.record.ports.clear();
        if self.next(Input::Ended { again }).is_err() {
            return;
        }
        self.engine.inner().store.put("container", &id, &self.record);
        self.clean_up(endpoints.clone()).await;
        self.container.set_process(None);
        self.container.lives.send_replace(false);
        if let Some(log) = &self.container.log {
            log.close();
        }
        if untold {
            self.event("oom", []);
        }
        let lasted = self.record.ended().lasted.as_secs();
        self.event(
            "die",
            [("exitCode", self.record.exit_code.to_string()), ("execDuration", lasted.to_string())],
        );
        for endpoint in &endpoints {
            self.network_event("disconnect", &endpoint.network);
        }
        self.container.record.send_replace(Arc::new(self.record.clone()));
        self.container.hub.end();
        self.tell_waits(WaitCondition::NextExit);
        self.after_end(again).await;
    }

    /// What follows an end: a removal that waited for it, the automatic one, or the next run.
    pub(super) async fn after_end(&mut self, again: bool) {
        if !self.removals.is_empty() {
            let removals = std::mem::take(&mut self.removals);
            let options = removals.first().map(|(options, _)| *options).unwrap_or_default();
            let outcome = self.remove(options).await;
            for (_, reply) in removals {
                let _ = reply.send(outcome.clone());
            }
        } else if again {
            let pause = self.backoff.after(self.record.ended().lasted);
            let (run, commands) = (self.run, self.container.commands.clone());
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                let _ = commands.send(Command::RestartDue { run }).await;
            });
        } else if self.record.host_config.auto_remove && !self.comes_again && !self.going_down {
            self.auto_remove().await;
        }
    }

    pub(super) async fn auto_remove(&mut self) {
        let options = RemoveOptions { volumes: true, ..RemoveOptions::default() };
        if let Err(error) = self.remove(options).await {
            tracing::error!("container {} can't be removed: {error}", self.record.name);
        }
    }

    /// Gives back what the run had.
    async fn clean_up(&self, endpoints: Vec<network::EndpointRecord>) {
        let (runtime, networks) = (self.engine.inner().runtime.clone(), self.engine.inner().networks.clone());
        let (id, volumes, record) = (self.record.id.clone(), self.engine.volumes(), self.record.clone());
        let done = tokio::task::spawn_blocking(move || {
            if let Some(networks) = networks {
                crate::containers::networking::leave_now(&networks, &endpoints);
            }
            if let Err(error) = runtime.release(&id) {
                tracing::warn!("container {id} is not wholly released: {error}");
            }
            volumes.release(&record);
        });
        if let Err(error) = done.await {
            tracing::error!("cleaning up after a container broke off: {error}");
        }
    }

    pub(super) fn signal(&mut self, signal: i32, purpose: Purpose) -> Result<Signalled> {
        let Some(process) = self.container.process() else {
            if self.record.state == State::Restarting {
                self.record.by_hand = true;
                self.next(Input::Cancel)?;
                self.publish();
                self.tell_waits(WaitCondition::NextExit);
                return Ok(Signalled::Cancelled);
            }
            return Ok(Signalled::NotRunning);
        };
        let ends = purpose != Purpose::Kill || signal == signal::KILL || self.stop_signal() == signal;
        match purpose {
            Purpose::Shutdown => self.going_down = true,
            Purpose::Restart => self.comes_again = true,
            _ => {}
        }
        if ends && purpose != Purpose::Shutdown {
            self.record.by_hand = true;
        }
        if let Err(error) = process.signal(signal)
            && error.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error())
        {
            return Err(Error::io(format_args!("cannot kill container: {}", self.record.id), &error));
        }
        if ends && matches!(self.record.state, State::Paused { .. }) {
            // A frozen process does not see its signal.
            if let Err(error) = self.engine.inner().runtime.cgroup(&self.record.id).thaw() {
                tracing::warn!("container {} can't be thawed: {error}", self.record.name);
            } else {
                self.next(Input::Unpause)?;
            }
        }
        if purpose != Purpose::Shutdown {
            self.event("kill", [("signal", signal.to_string())]);
            self.publish();
        }
        Ok(Signalled::Sent)
    }

    fn stop_signal(&self) -> i32 {
        signal::parse(&self.record.config.stop_signal).unwrap_or(signal::TERM)
    }

    pub(super) async fn freeze(&mut self, frozen: bool) -> Result<()> {
        let input = if frozen { Input::Pause } else { Input::Unpause };
        if let Err(denied) = self.record.state.next(input) {
            return Err(denied.explain(&self.record.id, &self.record.name));
        }
        let cgroup = self.engine.inner().runtime.cgroup(&self.record.id);
        let work = tokio::task::spawn_blocking(move || if frozen { cgroup.freeze() } else { cgroup.thaw() });
        let (verb, event) = if frozen { ("pause", "pause") } else { ("unpause", "unpause") };
        work.await
            .map_err(Error::system)?
            .map_err(|error| Error::io(format_args!("cannot {verb} container {}", self.record.id), &error))?;
        self.next(input)?;
        if frozen {
            self.monitor = None;
            health::end(&mut self.record.health);
        } else {
            self.watch_health();
        }
        self.publish();
        self.event(event, []);
        Ok(())
    }
}
