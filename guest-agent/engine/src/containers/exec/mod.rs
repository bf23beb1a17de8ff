//! One more process in a running container.

mod kept;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use runtime::{ExecPlan, ExitStatus, Process, Stdio, UserSpec};

use crate::containers::container::Container;
use crate::containers::input::{Gate, detach_keys};
use crate::containers::launch;
use crate::containers::names;
use crate::containers::record::Record;
use crate::containers::request::{Attachment, BoxStream, ExecConfig, ExecStart, OutputChunk, StdStream};
use crate::containers::state::State;
use crate::containers::streams;
use crate::containers::view::{ExecInspect, ExecProcess};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::logs::Hub;
use crate::signal;

/// How long the result of an exec can be asked for; dockerd keeps it as long.
const KEPT: std::time::Duration = std::time::Duration::from_secs(300);

/// An exec, from its creation until some time after its end.
pub(crate) struct Exec {
    pub(crate) id: String,
    pub(crate) container: Arc<Container>,
    pub(crate) config: ExecConfig,
    stage: Mutex<Stage>,
    /// Width and height that were asked for before it ran.
    size: Mutex<Option<(u16, u16)>>,
    hub: Arc<Hub>,
    gate: Gate,
    /// Whether the next engine goes on with it. The engine's own commands end with the engine.
    kept: bool,
}

enum Stage {
    Created,
    Starting,
    Running(Process),
    Ended { exit_code: i32, pid: i32, at: std::time::Instant },
}

impl Exec {
    fn new(id: String, container: Arc<Container>, config: ExecConfig, kept: bool) -> Exec {
        Exec {
            id,
            hub: Arc::new(Hub::new(&container.directory)),
            container,
            config,
            stage: Mutex::new(Stage::Created),
            size: Mutex::default(),
            gate: Gate::default(),
            kept,
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it can be forgotten.
    fn is_stale(&self) -> bool {
        matches!(&*self.stage(), Stage::Ended { at, .. } if at.elapsed() > KEPT)
    }

    fn is_open(&self) -> bool {
        !matches!(&*self.stage(), Stage::Ended { .. })
    }

    /// Its process, when it runs.
    pub(crate) fn process(&self) -> Option<Process> {
        match &*self.stage() {
            Stage::Running(process) => Some(process.clone()),
            _ => None,
        }
    }

    /// Sets the size of its terminal, now or when it is there.
    pub(crate) fn resize(&self, width: u16, height: u16) -> Result<()> {
        let stage = self.stage();
        match &*stage {
            Stage::Created | Stage::Starting => {
                *self.size.lock().unwrap_or_else(PoisonError::into_inner) = Some((width, height));
                Ok(())
            }
            Stage::Running(process) => process
                .resize(width, height)
                .map_err(|error| Error::io(format_args!("cannot resize exec {}", self.id), &error)),
            Stage::Ended { .. } => Err(Error::conflict(format_args!("exec {} is not running", self.id))),
        }
    }

    /// What `GET /exec/{id}/json` shows.
    pub(crate) fn inspect(&self) -> ExecInspect {
        let (running, exit_code, pid) = match &*self.stage() {
            Stage::Created => (false, None, 0),
            Stage::Starting => (true, None, 0),
            Stage::Running(process) => (true, None, process.pid()),
            Stage::Ended { exit_code, pid, .. } => (false, Some(*exit_code), *pid),
        };
        let mut words = self.config.cmd.clone().unwrap_or_default().0.into_iter();
        ExecInspect {
            id: self.id.clone(),
            running,
            exit_code,
            process_config: ExecProcess {
                tty: self.config.tty,
                entrypoint: words.next().unwrap_or_default(),
                arguments: words.collect(),
                privileged: self.config.privileged,
                user: self.config.user.clone(),
            },
            open_stdin: self.config.attach_stdin,
            open_stderr: self.config.attach_stderr,
            open_stdout: self.config.attach_stdout,
            can_remove: exit_code.is_some(),
            container_id: self.container.id.clone(),
            detach_keys: String::new(),
            pid,
        }
    }

    fn words(&self) -> String {
        self.config.cmd.as_ref().map(|words| words.0.join(" ")).unwrap_or_default()
    }
}

/// Every exec by its id.
#[derive(Default)]
pub(crate) struct Execs(Mutex<HashMap<String, Arc<Exec>>>);

impl Execs {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &str) -> Result<Arc<Exec>> {
        self.all()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::not_found(format_args!("No such exec instance: {id}")))
    }

    pub(crate) fn remove(&self, id: &str) {
        self.all().remove(id);
    }

    fn insert(&self, exec: Arc<Exec>) {
        let mut all = self.all();
        // Old results go when new ones come: no timer is needed.
        all.retain(|_, old| {
            let stale = old.is_stale();
            if stale {
                old.container.execs().remove(&old.id);
            }
            !stale
        });
        exec.container.execs().insert(exec.id.clone(), exec.clone());
        all.insert(exec.id.clone(), exec);
    }
}

/// The execs that inspect shows.
pub(crate) fn open_ids(container: &Container) -> Option<Vec<String>> {
    let ids: Vec<String> =
        container.execs().values().filter(|exec| exec.is_open()).map(|exec| exec.id.clone()).collect();
    (!ids.is_empty()).then_some(ids)
}

fn running(record: &Record, name: &str) -> Result<()> {
    match record.state {
        State::Running { .. } => Ok(()),
        State::Paused { .. } => Err(Error::conflict(format_args!(
            "container {name} is paused, unpause the container before exec"
        ))),
        State::Restarting => Err(Error::conflict(format_args!(
            "container {name} is restarting, wait until the container is running"
        ))),
        _ => Err(Error::conflict(format_args!("container {} is not running", record.id))),
    }
}

/// `POST /containers/{name}/exec`
pub(crate) async fn create(engine: &Engine, name: &str, config: ExecConfig) -> Result<String> {
    create_for(engine, name, config, true).await
}

async fn create_for(engine: &Engine, name: &str, config: ExecConfig, kept: bool) -> Result<String> {
    let container = engine.inner().registry.get(name)?;
    running(&container.now(), name)?;
    if config.cmd.as_ref().is_none_or(|words| words.0.is_empty()) {
        return Err(Error::invalid("No exec command specified"));
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format_args!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    detach_keys(&config.detach_keys)?;
    let exec = Arc::new(Exec::new(names::id()?, container.clone(), config, kept));
    let id = exec.id.clone();
    container.note(format!("exec_create: {}", exec.words()), vec![("execID", id.clone())]).await;
    engine.inner().execs.insert(exec);
    Ok(id)
}

/// Ends an exec that nobody waits for any more.
struct Kill(Arc<Exec>);

impl Drop for Kill {
    fn drop(&mut self) {
        if let Some(process) = self.0.process() {
            // One that has ended meanwhile needs no signal.
            let _ = process.signal(signal::KILL);
        }
    }
}

/// Runs a command for the engine itself, as the container's own user: its exit code, while `show` gets what it
/// prints. The command is killed when the future is dropped.
pub(crate) async fn probe(
    engine: &Engine,
    container: &Container,
    command: Vec<String>,
    mut show: impl FnMut(&[u8]),
) -> Result<i32> {
    let config = ExecConfig {
        cmd: Some(crate::containers::spec::Words(command)),
        attach_stdout: true,
        attach_stderr: true,
        ..ExecConfig::default()
    };
    let id = create_for(engine, &container.id, config, false).await?;
    let exec = engine.inner().execs.get(&id)?;
    let record = container.now();
    let kill = Kill(exec.clone());
    let (mut output, _ticket) = exec.hub.join(true, true);
    claim(&exec)?;
    begin(engine, &exec, &record, &ExecStart::default(), false).await.map_err(|failed| failed.error)?;
    while let Some(chunk) = output.next().await {
        show(&chunk.bytes);
    }
    drop(kill);
    exec.inspect().exit_code.ok_or_else(|| Error::system("the check has no exit code"))
}

/// Makes sure that an exec is started once.
fn claim(exec: &Exec) -> Result<()> {
    let mut stage = exec.stage();
    match &*stage {
        Stage::Created => {
            *stage = Stage::Starting;
            Ok(())
        }
        Stage::Ended { .. } => Err(Error::conflict(format_args!("Exec command {} has already run", exec.id))),
        _ => Err(Error::conflict(format_args!("Exec command {} is already running", exec.id))),
    }
}

/// Starts the process of a claimed exec.
async fn begin(
    engine: &Engine,
    exec: &Arc<Exec>,
    record: &Arc<Record>,
    options: &ExecStart,
    stdin: bool,
) -> Result<(), launch::Failed> {
    exec.container.note(format!("exec_start: {}", exec.words()), vec![("execID", exec.id.clone())]).await;
    match spawn(engine, exec, record, options, stdin).await {
        Ok(process) => {
            attach_streams(engine, exec, process);
            Ok(())
        }
        Err(failed) => {
            *exec.stage() =
                Stage::Ended { exit_code: failed.exit_code, pid: 0, at: std::time::Instant::now() };
            exec.hub.end();
            Err(failed)
        }
    }
}

/// `POST /exec/{id}/start`
pub(crate) async fn start(engine: &Engine, id: &str, options: ExecStart) -> Result<Option<Attachment>> {
    let exec = engine.inner().execs.get(id)?;
    let record = exec.container.now();
    running(&record, &record.name)?;
    claim(&exec)?;
    let config = &exec.config;
    let (output, ticket) = exec.hub.join(config.attach_stdout, config.attach_stderr);
    let stdin = config.attach_stdin && !options.detach;
    match begin(engine, &exec, &record, &options, stdin).await {
        Ok(()) => {
            if options.detach {
                return Ok(None);
            }
            let input = stdin.then(|| {
                let keys = if config.tty {
                    detach_keys(&config.detach_keys).unwrap_or_default()
                } else {
                    Vec::new()
                };
                exec.gate.open(!config.tty, keys, Some(ticket))
            });
            Ok(Some(Attachment { tty: config.tty, output, input }))
        }
        Err(launch::Failed { error, .. }) => {
            if options.detach {
                return Err(error);
            }
            // The connection has been upgraded by now as far as clients can tell: dockerd writes the error
            // into it, and the exit code is found by inspect.
            let bytes = format!("{}\r\n", error.message).into();
            let told: BoxStream<OutputChunk> =
                Box::pin(futures_util::stream::iter([OutputChunk { stream: StdStream::Stdout, bytes }]));
            Ok(Some(Attachment { tty: config.tty, output: told, input: None }))
        }
    }
}

async fn spawn(
    engine: &Engine,
    exec: &Arc<Exec>,
    record: &Arc<Record>,
    options: &ExecStart,
    stdin: bool,
) -> Result<Process, launch::Failed> {
    let config = &exec.config;
    let size = options.console_size.or(config.console_size).unwrap_or_default();
    let stdio =
        if config.tty { Stdio::Terminal { width: size[1], height: size[0] } } else { Stdio::Pipes { stdin } };
    let (engine, exec, record) = (engine.clone(), exec.clone(), record.clone());
    let work = tokio::task::spawn_blocking(move || {
        let plan = plan(&engine, &exec, &record)?;
        if exec.kept {
            kept::write(&engine, &exec)?;
        }
        engine.inner().runtime.exec(plan, stdio).map_err(|error| {
            if exec.kept {
                kept::remove(&engine, &exec.id);
            }
            launch::Failed {
                error: Error { kind: crate::error::Kind::InvalidParameter, message: error.to_string() },
                exit_code: match i32::try_from(error.exit_code()) {
                    Ok(127) => 127,
                    _ => 126,
                },
            }
        })
    });
    match work.await {
        Ok(launched) => launched,
        Err(error) => Err(Error::system(format_args!("starting an exec broke off: {error}")).into()),
    }
}

fn plan(engine: &Engine, exec: &Exec, record: &Record) -> Result<ExecPlan> {
    let config = &exec.config;
    let mut plan =
        ExecPlan::new(exec.id.clone(), record.id.clone(), config.cmd.clone().unwrap_or_default().0);
    let mut env = launch::environment(record);
    if config.tty && !env.iter().any(|pair| pair.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    for pair in config.env.iter().flatten() {
        let name = pair.split('=').next().unwrap_or_default();
        env.retain(|own| own.split('=').next() != Some(name));
        if pair.contains('=') {
            env.push(pair.clone());
        }
    }
    plan.env = env;
    plan.cwd = [&config.working_dir, &record.config.working_dir]
        .into_iter()
        .find(|directory| !directory.is_empty())
        .map_or_else(|| "/".to_owned(), Clone::clone);
    let user = if config.user.is_empty() { &record.config.user } else { &config.user };
    plan.user =
        UserSpec { user: user.clone(), groups: record.host_config.group_add.clone().unwrap_or_default() };
    let (capabilities, no_new_privileges, filter) =
        launch::exec_rights(engine, &record.host_config, config.privileged)?;
    plan.capabilities = capabilities;
    plan.no_new_privileges = no_new_privileges;
    plan.seccomp = filter;
    plan.rlimits = launch::rlimits(&record.host_config);
    plan.oom_score_adj = i32::try_from(record.host_config.oom_score_adj).ok().filter(|value| *value != 0);
    Ok(plan)
}

fn attach_streams(engine: &Engine, exec: &Arc<Exec>, process: Process) {
    *exec.stage() = Stage::Running(process.clone());
    let size = exec.size.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((width, height)) = size
        && let Err(error) = process.resize(width, height)
    {
        tracing::debug!("exec {} keeps its size: {error}", exec.id);
    }
    let pid = process.pid();
    let ending = streams::join(process, &exec.hub, &exec.gate, None);
    let (engine, exec) = (engine.clone(), exec.clone());
    tokio::spawn(async move {
        let status = ending.await;
        finish(&engine, &exec, pid, status).await;
    });
}

async fn finish(engine: &Engine, exec: &Arc<Exec>, pid: i32, status: ExitStatus) {
    let exit_code = status.code.unwrap_or_else(|| 128 + status.signal.unwrap_or(signal::KILL));
    *exec.stage() = Stage::Ended { exit_code, pid, at: std::time::Instant::now() };
    // Only now may the streams end: a client asks for the exit code as soon as they do.
    exec.hub.end();
    let attributes = vec![("execID", exec.id.clone()), ("exitCode", exit_code.to_string())];
    exec.container.note("exec_die", attributes).await;
    let (engine, exec) = (engine.clone(), exec.clone());
    tokio::task::spawn_blocking(move || {
        if exec.kept {
            kept::remove(&engine, &exec.id);
        }
        if let Err(error) = engine.inner().runtime.release_exec(&exec.container.id, &exec.id) {
            tracing::warn!("exec {} is not released: {error}", exec.id);
        }
    });
}

/// Goes on with what an engine before this one has started and the supervisor still holds. Their clients are
/// gone with that engine, so whoever reads standard input reads its end.
pub(crate) fn adopt(engine: &Engine) {
    for (id, kept::Kept { container, config }) in kept::read(engine) {
        let runtime = &engine.inner().runtime;
        let container = engine.inner().registry.get(&container).ok();
        let process = container.as_ref().and_then(|container| runtime.adopt_exec(&container.id, &id));
        let (Some(container), Some(process)) = (container, process) else {
            kept::remove(engine, &id);
            continue;
        };
        let exec = Arc::new(Exec::new(id, container, config, true));
        engine.inner().execs.insert(exec.clone());
        attach_streams(engine, &exec, process);
        drop(exec.gate.open(true, Vec::new(), None));
    }
}
