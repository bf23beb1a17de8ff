//! The engine's beginning and end: what an engine before it has left is taken over, what belongs to nobody goes.
//!
//! A container whose process lives, or has ended with its exit status kept by the supervisor, is adopted. One
//! that was recorded as running but is known to nobody was ended by a power loss: it has exited with 255.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use network::{NetworkConfig, NetworkSpec, SubnetSpec};

use crate::config::{EngineConfig, Options};
use crate::containers::actor::{self, Beginning};
use crate::containers::container::{Command, Container, Purpose, Signalled};
use crate::containers::record::Record;
use crate::containers::state::State;
use crate::containers::{launch, names, networking, remove, restart};
use crate::engine::{Engine, Inner};
use crate::error::{Error, Result};
use crate::networks::{Builtin, Table, UserNetwork};
use crate::signal;
use crate::store::Store;
use crate::time::Time;
use crate::volumes::{self, Volume};

/// dockerd's exit code for a container that ended with its machine.
const LOST: i32 = 255;
/// dockerd's time for containers to stop in when the engine stops.
const GRACE: u64 = 10;

/// Opens everything. Blocking.
pub(crate) fn open(config: EngineConfig) -> Result<(Inner, Vec<Record>)> {
    let directory = |name: &str| {
        let path = config.data_root.join(name);
        fs::create_dir_all(&path)
            .map(|()| path.clone())
            .map_err(|error| Error::io(format_args!("cannot create `{}`", path.display()), &error))
    };
    let (containers, volume_root, trash) =
        (directory("containers")?, directory("volumes")?, directory("trash")?);
    let mountpoint = config.exec_root.join("rootfs");
    fs::create_dir_all(&mountpoint)
        .map_err(|error| Error::io(format_args!("cannot create `{}`", mountpoint.display()), &error))?;
    let store =
        Store::open(config.database.clone(), &config.exec_root.join("journal")).map_err(Error::system)?;
    let images = image::StoreConfig::new(config.data_root.join("images"), config.database.clone());
    let images = image::Store::open(images).map_err(|error| crate::images::failure(&error))?;
    let cgroup_parent = cgroup_parent(&config);
    let runtime = runtime::Runtime::new(runtime::RuntimeConfig {
        cgroup_parent,
        supervisor: config.supervisor.clone(),
    })
    .map_err(|error| Error::io("cannot set up the runtime", &error))?;
    let records: Vec<Record> = store
        .all::<Record>("container")
        .map_err(Error::system)?
        .into_iter()
        .map(|(_, record)| record)
        .collect();
    let volumes: Vec<Volume> =
        store.all::<Volume>("volume").map_err(Error::system)?.into_iter().map(|(_, volume)| volume).collect();
    let id = engine_id(&store)?;
    let (networks, builtin, user_networks) = open_networks(&config, &store, &id, &records)?;
    let registries = registries(&config);
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let inner = Inner {
        id,
        cpus,
        store,
        images,
        runtime,
        networks,
        builtin,
        user_networks,
        registries,
        volumes: volumes::Table::new(volumes),
        mounted: volumes::Mounted::default(),
        events: crate::events::Bus::default(),
        registry: crate::containers::registry::Registry::default(),
        execs: crate::containers::exec::Execs::default(),
        seccomp: launch::Filters::default(),
        containers,
        volume_root,
        trash,
        mountpoint,
        config,
    };
    clear_leftovers(&inner, &records);
    Ok((inner, records))
}

fn cgroup_parent(config: &EngineConfig) -> String {
    match config.options.cgroup_parent.trim_matches('/') {
        "" if config.vm => "docker".to_owned(),
        // Several engines on one machine must not see each other's groups.
        "" => format!("sampan-{}", fingerprint(&config.data_root)),
        parent => parent.to_owned(),
    }
}

/// A short text that is the same for the same data root.
fn fingerprint(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // FNV-1a: no secret, only a name.
    let hash = path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn engine_id(store: &Store) -> Result<String> {
    let known: Vec<(String, String)> = store.all("engine").map_err(Error::system)?;
    if let Some((_, id)) = known.into_iter().find(|(key, _)| key == "id") {
        return Ok(id);
    }
    let hex = names::id()?;
    let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]].join("-");
    store.put("engine", "id", &id);
    Ok(id)
}

fn registries(config: &EngineConfig) -> image::RegistryConfig {
    let default = image::RegistryConfig::default();
    image::RegistryConfig {
        concurrent_downloads: match config.options.concurrent_downloads {
            0 => default.concurrent_downloads,
            given => given,
        },
        retries: config.options.download_attempts.checked_sub(1).unwrap_or(default.retries),
        mirrors: config.options.registry_mirrors.clone(),
        insecure: config.options.insecure_registries.iter().cloned().collect(),
        dial: config.dial.clone(),
        proxies: config.proxies.clone(),
        certificates: config.registry_certificates.clone(),
        ..default
    }
}

fn open_networks(
    config: &EngineConfig,
    store: &Store,
    id: &str,
    records: &[Record],
) -> Result<(Option<network::Networks>, Builtin, Table)> {
    let known: Vec<(String, Builtin)> = store.all("network").map_err(Error::system)?;
    let mut builtin = match known.into_iter().find(|(key, _)| key == "builtin") {
        Some((_, builtin)) => builtin,
        None => Builtin {
            bridge: names::id()?,
            host: names::id()?,
            none: names::id()?,
            created: Time::now(),
            record: None,
        },
    };
    if config.options.bridge == "none" {
        builtin.record = None;
        store.put("network", "builtin", &builtin);
        return Ok((None, builtin, Table::default()));
    }
    let failed = |error: network::NetworkError| crate::networks::failure(&error);
    let networks = network::Networks::new(NetworkConfig {
        instance: id.to_owned(),
        pools: pools(&config.options)?,
        masquerade: true,
        ip_forward: true,
        lazy: config.vm,
        publishing: config.publishing.clone(),
    })
    .map_err(failed)?;
    let link = match config.options.bridge.as_str() {
        "" if config.vm => "docker0".to_owned(),
        "" => "sampan0".to_owned(),
        link => link.to_owned(),
    };
    let subnets = match (&config.options.bip, &builtin.record) {
        (Some(bip), _) => vec![bip_subnet(bip)?],
        (None, Some(record)) => record
            .subnets
            .iter()
            .map(|known| SubnetSpec {
                subnet: known.subnet,
                range: None,
                gateway: Some(known.gateway),
                reserved: Vec::new(),
            })
            .collect(),
        (None, None) => Vec::new(),
    };
    let spec = NetworkSpec {
        id: builtin.bridge.clone(),
        name: "bridge".to_owned(),
        link: Some(link),
        subnets,
        ..NetworkSpec::default()
    };
    builtin.record = Some(networks.create(&spec).map_err(failed)?);
    store.put("network", "builtin", &builtin);
    let user_networks = Table::default();
    for (_, network) in store.all::<UserNetwork>(crate::networks::KIND).map_err(Error::system)? {
        if let Err(error) = networks.create(&network.spec) {
            // Its record stays: what is in its way may be gone at the next start.
            tracing::error!("network {}: {}", network.spec.name, crate::networks::failure(&error));
        }
        user_networks.adopt(network);
    }
    let live: Vec<network::EndpointRecord> =
        records.iter().flat_map(|record| record.endpoints.clone()).collect();
    if let Err(error) = networks.recover(&live) {
        tracing::error!("networks: {}", crate::networks::failure(&error));
    }
    if let Some(port) = config.egress_port {
        networks.redirect_egress(&network::RedirectSpec { port }).map_err(failed)?;
    }
    Ok((Some(networks), builtin, user_networks))
}

fn pools(options: &Options) -> Result<Vec<network::AddressPool>> {
    options
        .address_pools
        .iter()
        .map(|(base, size)| {
            let base =
                base.parse().map_err(|_| Error::invalid(format_args!("invalid address pool: {base}")))?;
            Ok(network::AddressPool { base, size: *size })
        })
        .collect()
}

/// `172.17.0.1/16` is the gateway and its subnet in one.
fn bip_subnet(bip: &str) -> Result<SubnetSpec> {
    let invalid = || Error::invalid(format_args!("invalid CIDR address: {bip}"));
    let (address, prefix) = bip.split_once('/').ok_or_else(invalid)?;
    let gateway: std::net::IpAddr = address.parse().map_err(|_| invalid())?;
    let subnet = network::Subnet::new(gateway, prefix.parse().map_err(|_| invalid())?).ok_or_else(invalid)?;
    Ok(SubnetSpec { subnet, range: None, gateway: Some(gateway), reserved: Vec::new() })
}

/// Removes directories without a record.
fn clear_leftovers(inner: &Inner, records: &[Record]) {
    let known: BTreeSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().filter_map(std::result::Result::ok);
    for entry in entries(&inner.trash) {
        remove::empty(&entry.path());
    }
    for entry in entries(&inner.containers) {
        if !known.contains(entry.file_name().to_string_lossy().as_ref()) {
            tracing::warn!("removing `{}`: no container has it", entry.path().display());
            remove::empty(&entry.path());
        }
    }
    for entry in entries(&inner.volume_root) {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Data is dear: only what was never filled is cleared away.
        let data = entry.path().join("_data");
        if !inner.volumes.contains(&name)
            && fs::remove_dir(&data).is_ok()
            && fs::remove_dir(entry.path()).is_ok()
        {
            tracing::warn!("removed the empty directory of volume {name}: no volume has it");
        }
    }
}

/// Gives every record its task.
pub(crate) async fn adopt(engine: &Engine, records: Vec<Record>) -> Result<()> {
    let inner = engine.inner();
    let mut auto_removed = Vec::new();
    for mut record in records {
        let id = record.id.clone();
        let mounted = record.mounts.iter().filter(|entry| entry.is_image()).map(|entry| &entry.image_id);
        let leases = std::iter::once(&record.image_id)
            .chain(mounted)
            .filter_map(|image| {
                let lease = image.parse().ok().and_then(|image| inner.images.hold(&image).ok());
                if lease.is_none() {
                    tracing::error!("the image {image} of container {} is gone", record.name);
                }
                lease
            })
            .collect();
        if inner.registry.name(Some(&record.name), &id).is_err() {
            tracing::error!("two containers are called {}", record.name);
        }
        let beginning = beginning(engine, &mut record).await;
        let orphan = matches!(beginning, Beginning::Still)
            && record.host_config.auto_remove
            && record.state != State::Created;
        let record = record;
        let (container, commands) = Container::new(record, inner.containers.join(&id), leases);
        inner.registry.insert(container.clone());
        inner.store.put("container", &id, &*container.now());
        if orphan {
            auto_removed.push(container.clone());
        }
        actor::spawn(engine.clone(), container, commands, beginning);
    }
    crate::containers::exec::adopt(engine);
    let runtime = inner.runtime.clone();
    let discarded = tokio::task::spawn_blocking(move || runtime.discard_leftovers()).await;
    if let Ok(Err(error)) = discarded {
        tracing::warn!("leftovers of containers: {error}");
    }
    if let Err(error) = inner.images.settle() {
        tracing::warn!("leftovers of images: {}", error.sentence());
    }
    for container in auto_removed {
        let options = crate::containers::request::RemoveOptions { volumes: true, ..Default::default() };
        let name = container.id.clone();
        if let Err(error) = container.ask(|reply| Command::Remove { options, name, reply }).await {
            tracing::warn!("container {}: {error}", container.id);
        }
    }
    Ok(())
}

/// What a container's task begins with, its record made true.
async fn beginning(engine: &Engine, record: &mut Record) -> Beginning {
    if matches!(record.state, State::Removing) {
        // The removal had begun; it can be asked for again.
        record.state = State::Dead;
    }
    // The journal may have missed the very start: the supervisor's word counts.
    if let Some(process) = engine.inner().runtime.adopt(&record.id) {
        let pid = process.pid();
        record.state = match record.state {
            State::Paused { .. } => State::Paused { pid },
            _ => State::Running { pid },
        };
        if record.started_at.is_never() {
            record.started_at = Time::now();
        }
        let (held, holding) = (record.clone(), engine.volumes());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || holding.hold(&held)).await {
            tracing::error!("volumes of container {}: {error}", record.name);
        }
        networking::serve_again(engine, record, &process);
        match networking::publish_again(engine, record).await {
            Ok(ports) if !ports.is_empty() => record.ports = ports,
            Ok(_) => {}
            Err(error) => tracing::error!("ports of container {}: {error}", record.name),
        }
        return Beginning::Live(process);
    }
    if record.state.lives() || record.state == State::Restarting {
        if record.state.lives() {
            record.exit_code = LOST;
            record.finished_at = Time::now();
        }
        record.state = State::Exited;
        networking::leave(engine, &std::mem::take(&mut record.endpoints)).await;
        record.ports.clear();
    }
    let ran = !record.started_at.is_never();
    let policy = &record.host_config.restart_policy;
    if record.state == State::Exited && ran && restart::at_boot(policy, record.ended(), record.restart_count)
    {
        // Clients may ask before it runs again.
        record.state = State::Restarting;
        return Beginning::Due;
    }
    Beginning::Still
}

/// Stops containers, unless they are to go on, and gives back what the engine has of the machine.
pub(crate) async fn shut_down(engine: &Engine, grace: Duration) {
    let inner = engine.inner();
    if !engine.config().options.live_restore {
        let stops: Vec<_> = inner
            .registry
            .all()
            .into_iter()
            .filter(|container| container.now().state.lives())
            .map(|container| tokio::spawn(stop_for_shutdown(container, grace)))
            .collect();
        for stop in stops {
            let _ = stop.await;
        }
    }
    let (store, networks) = (inner.store.clone(), inner.networks.clone());
    let close = !engine.config().options.live_restore;
    let cgroup =
        inner.runtime.host().cgroup_root.as_ref().map(|root| root.join(cgroup_parent(engine.config())));
    let done = tokio::task::spawn_blocking(move || {
        store.flush();
        if let (true, Some(networks)) = (close, networks)
            && let Err(error) = networks.close()
        {
            tracing::warn!("networks: {error}");
        }
        if let Some(cgroup) = cgroup {
            // It is ours alone; with containers that go on in it, it stays.
            let _ = fs::remove_dir(cgroup);
        }
    });
    let _ = done.await;
}

async fn stop_for_shutdown(container: Arc<Container>, grace: Duration) {
    let record = container.now();
    let own = record.config.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(GRACE);
    let grace = grace.min(Duration::from_secs(own));
    let first = signal::parse(&record.config.stop_signal).unwrap_or(signal::TERM);
    let mut states = container.record.subscribe();
    for (signal, patience) in [(first, grace), (signal::KILL, actor::KILL_PATIENCE)] {
        let purpose = Purpose::Shutdown;
        match container.ask(|reply| Command::Signal { signal, purpose, reply }).await {
            Ok(Signalled::Sent) => {}
            _ => return,
        }
        let ended = states.wait_for(|record| !record.state.lives());
        if tokio::time::timeout(patience, ended).await.is_ok() {
            return;
        }
    }
    tracing::error!("container {} doesn't end", record.name);
}
