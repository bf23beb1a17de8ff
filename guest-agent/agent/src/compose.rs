//! The engine's process: builds everything, says when the API answers, and takes it down again.
//!
//! The one place where the parts are put together. It is started by the supervisor only, in the VM and natively
//! alike; what differs is who dials, who publishes and where the API listens.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api::Api;
use engine::{Engine, EngineConfig};
use network::Publishing;
use protocol::ports;
use supervisor::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::fabric::{self, control::Control};
use crate::init::{self, console, disk, modules, power};
use crate::listen::{Address, Listener};
use crate::options::Options;
use crate::{certs, resolver, tls};

/// Answers under way get this long once the engine has stopped.
const DRAINING: Duration = Duration::from_secs(1);
/// The store's cache: its records are few and small.
const STORE_CACHE: usize = 4 << 20;
/// The bridge's address in the VM, which is where containers find their name server.
const VM_BRIDGE: &str = "172.17.0.1/16";
const VM_NAME_SERVER: &str = "172.17.0.1";
const VM_SOCKET: &str = "/run/docker.sock";

/// Sends the log to standard error.
pub(crate) fn log_to_stderr(level: tracing::Level) {
    // A second call keeps the first one's choice.
    let _ = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_max_level(level)
        .try_init();
}

/// Runs the engine until it is told to stop.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let done = Options::parse(arguments).and_then(|options| {
        if options.vm {
            console::start_logging();
        } else {
            log_to_stderr(options.level()?);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let done = runtime.block_on(run(options));
        // A thread that waits in the kernel must not hold up the end.
        runtime.shutdown_timeout(Duration::from_millis(100));
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    let number = options.supervisor_fd.context("the engine is started by `guest-agent serve` only")?;
    let supervisor = Client::connect(sys::process::adopt_descriptor(number)?)?;
    let control = if options.vm { Some(serve_control()?) } else { None };
    if options.refused {
        supervisor.ready()?;
        spawn_thread("watch", {
            let control = control.clone();
            move || watch_power_button(control)
        });
        return Ok(wait_for_stop(&supervisor).await?);
    }
    let options = if options.vm { for_vm(options) } else { options };
    let listeners = bind(&options).await?;
    let engine = start_engine(&options, &listeners, &supervisor).await?;
    let api = Api::new(engine.clone());
    let mut serving = JoinSet::new();
    let addresses: Vec<String> = listeners.iter().map(Listener::address).collect();
    for listener in listeners {
        let api = api.clone();
        serving.spawn(async move { listener.serve(api).await });
    }
    if options.vm {
        serve_fabric(&mut serving, &api).await?;
    }
    supervisor.ready()?;
    match &control {
        Some(control) => {
            control.ready();
            let control = Arc::clone(control);
            spawn_thread("late", move || finish_boot(control));
        }
        None => println!("guest-agent: the API answers on {}", addresses.join(" and ")),
    }
    wait_for_stop(&supervisor).await?;
    serving.shutdown().await;
    let grace = control.map_or(Duration::from_secs(options.shutdown_timeout), |control| control.grace());
    engine.shutdown(grace).await;
    api.drain(DRAINING).await;
    Ok(())
}

/// What is different in the VM: places, the API's socket, and the name server of containers.
fn for_vm(mut options: Options) -> Options {
    options.data_root = Path::new(init::DATA).join("docker");
    options.exec_root = Path::new(init::RUN).join("docker");
    options.host = vec![format!("unix://{VM_SOCKET}")];
    options.bip.get_or_insert_with(|| VM_BRIDGE.to_owned());
    if options.dns.is_empty() {
        options.dns.push(VM_NAME_SERVER.to_owned());
    }
    options
}

/// Binds every address before anything else is touched: an address in use is the commonest mistake.
async fn bind(options: &Options) -> anyhow::Result<Vec<Listener>> {
    let acceptor = tls::acceptor(options)?;
    let fallback = ["unix://".to_owned()];
    let hosts = if options.host.is_empty() { &fallback[..] } else { &options.host };
    let mut listeners = Vec::new();
    for host in hosts {
        let address = Address::parse(host, acceptor.is_some())?;
        listeners.push(Listener::bind(&address, &options.group, acceptor.as_ref()).await?);
    }
    Ok(listeners)
}

async fn start_engine(
    options: &Options,
    listeners: &[Listener],
    supervisor: &Client,
) -> anyhow::Result<Engine> {
    for directory in [&options.data_root, &options.exec_root] {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make `{}`", directory.display()))?;
    }
    let store = options.data_root.join("engine.redb");
    let database = redb::Database::builder()
        .set_cache_size(STORE_CACHE)
        .create(&store)
        .with_context(|| format!("cannot open `{}`", store.display()))?;
    let config = EngineConfig {
        data_root: options.data_root.clone(),
        exec_root: options.exec_root.clone(),
        api_socket: listeners.iter().find_map(unix_path),
        options: options.for_engine()?,
        database: Arc::new(database),
        supervisor: supervisor.clone(),
        dial: if options.vm { Arc::new(fabric::egress::HostDial) } else { Arc::new(resolver::DirectDial) },
        publishing: if options.vm {
            Publishing::Through(Arc::new(fabric::publish::HostPublisher))
        } else {
            Publishing::Native
        },
        proxies: options.proxies(),
        registry_certificates: certs::read_all(&[
            Path::new(certs::FOLDER),
            &options.data_root.join("certs.d"),
        ]),
        egress_port: options.vm.then_some(fabric::egress::REDIRECT_PORT),
        vm: options.vm,
    };
    Engine::start(config).await.map_err(|error| anyhow::anyhow!("{error}")).context("the engine cannot start")
}

fn unix_path(listener: &Listener) -> Option<PathBuf> {
    match listener {
        Listener::Unix { path, .. } => Some(path.clone()),
        Listener::Tcp { .. } => None,
    }
}

/// The control port comes before the engine, so that the host can see how the engine comes up.
fn serve_control() -> anyhow::Result<Arc<Control>> {
    let control = Control::new();
    let listener = fabric::bind(ports::CONTROL).context("cannot listen on the control port")?;
    let serving = Arc::clone(&control);
    tokio::spawn(fabric::accept(listener, move |stream| Arc::clone(&serving).serve(stream)));
    Ok(control)
}

async fn serve_fabric(serving: &mut JoinSet<()>, api: &Api) -> anyhow::Result<()> {
    let docker = fabric::bind(ports::DOCKER_API).context("cannot listen on the API's port")?;
    let published = fabric::bind(ports::PUBLISHED).context("cannot listen on the port of published ports")?;
    let egress = fabric::egress::bind().await.context("cannot listen for containers' connections")?;
    let (udp, tcp) = fabric::dns::bind().await.context("cannot listen for containers' questions")?;
    let api = api.clone();
    serving.spawn(fabric::accept(docker, move |stream| {
        let api = api.clone();
        async move { api.serve_connection(api::Opaque(stream)).await }
    }));
    serving.spawn(fabric::accept(published, fabric::published::serve));
    serving.spawn(fabric::egress::serve(egress));
    serving.spawn(fabric::dns::serve(udp, tcp));
    Ok(())
}

/// What the boot left for later: everything that no first answer needs.
fn finish_boot(control: Arc<Control>) {
    match modules::Modules::read() {
        Ok(modules) => modules.load_group(modules::Group::Late),
        Err(error) => tracing::error!(%error, "cannot read the list of kernel modules"),
    }
    tracing::info!("late modules at {} ms", init::record::uptime_ms());
    if let Err(error) = disk::grow(Path::new(init::DATA)) {
        tracing::error!("{error:#}");
    }
    watch_power_button(Some(control));
}

fn watch_power_button(control: Option<Arc<Control>>) {
    power::watch_button(move || {
        if let Some(control) = &control {
            tracing::info!("the power button was pressed");
            control.shut_down();
        }
    });
}

fn spawn_thread(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
        tracing::error!(%error, "cannot start the thread `{name}`");
    }
}

/// Returns when the supervisor says stop, or is gone.
async fn wait_for_stop(supervisor: &Client) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        () = supervisor.closed() => tracing::error!("the supervisor is gone"),
    }
    Ok(())
}
