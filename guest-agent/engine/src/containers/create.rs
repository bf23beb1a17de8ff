//! Creating a container: checks first, then names, volumes, directories and the record, then its task.

use std::fs;
use std::sync::Arc;

use runtime::Rootfs;

use super::actor::{self, Beginning};
use super::check::{self, Defaults};
use super::container::Container;
use super::mounts::{self, MountEntry};
use super::names;
use super::record::Record;
use super::request::{CreateRequest, Created};
use super::state::State;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::time::Time;

/// `POST /containers/create`
pub(crate) async fn create(engine: &Engine, request: CreateRequest) -> Result<Created> {
    let inner = engine.inner();
    let CreateRequest { name, mut config, mut host_config, networking, platform } = request;
    if config.image.is_empty() {
        return Err(Error::invalid("no image specified"));
    }
    let image = find_image(engine, &config.image, platform.as_deref())?;
    check::merge_image(
        &mut config,
        image.config.config.as_ref().unwrap_or(&image::ContainerConfig::default()),
    )?;
    check::config(&config)?;
    let options = &engine.config().options;
    let defaults = Defaults {
        cpus: inner.cpus,
        log_driver: if options.log_driver.is_empty() { "json-file" } else { &options.log_driver },
        log_options: &options.log_options,
        shm_size: options.shm_size,
    };
    let mut warnings = check::host_config(&mut host_config, &defaults)?;
    warnings.extend(inner.runtime.host().limit_warnings(&check::resources(&host_config)));
    super::launch::check_security(&host_config)?;
    let networks = super::networking::wished(engine, &config, &host_config, networking.endpoints_config)?;
    let entries = mounts::resolve(&config, &host_config, |name| {
        Ok(inner.registry.get(name)?.now().mounts.as_ref().clone())
    })?;
    let lease = inner.images.hold(&image.id).map_err(|error| crate::images::failure(&error))?;

    let id = names::id()?;
    if config.hostname.is_empty() {
        config.hostname = if host_config.network_mode == "host" || host_config.uts_mode == "host" {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            id[..12].to_owned()
        };
    }
    let name = inner.registry.name(name.as_deref(), &id)?;
    if let Err(error) = super::links::check(engine, &name, &mut host_config) {
        inner.registry.free_name(&name, &id);
        return Err(error);
    }
    let record = Record {
        id: id.clone(),
        name: name.clone(),
        created: Time::now(),
        image_id: image.id.to_string(),
        // Until checks are run nothing is claimed about a container's health.
        health: None,
        config: Arc::new(config),
        host_config: Arc::new(host_config),
        networks: Arc::new(networks),
        mounts: Arc::new(Vec::new()),
        state: State::Created,
        exit_code: 0,
        error: String::new(),
        oom_killed: false,
        started_at: Time::NEVER,
        finished_at: Time::NEVER,
        restart_count: 0,
        by_hand: false,
        endpoints: Vec::new(),
        ports: Vec::new(),
    };
    match make(engine, record, entries, vec![lease]).await {
        Ok(()) => Ok(Created { id, warnings }),
        Err(error) => {
            inner.registry.free_name(&name, &id);
            super::remove::empty(&inner.containers.join(&id));
            Err(error)
        }
    }
}

fn find_image(engine: &Engine, name: &str, platform: Option<&str>) -> Result<Arc<image::Image>> {
    let image = engine.inner().images.get(name).map_err(|error| crate::images::failure(&error))?;
    if let Some(text) = platform.filter(|text| !text.is_empty()) {
        let wanted: image::Platform =
            text.parse().map_err(|error: image::InvalidPlatform| Error::invalid(error))?;
        if wanted.distance(&image.platform).is_none() {
            return Err(Error::not_found(format_args!(
                "image with reference {name} was found but does not provide the specified platform ({wanted})"
            )));
        }
    }
    Ok(image)
}

/// Gives the upper directory the mode and owner of the image's root directory: in an overlay its own count.
///
/// They are those of the topmost layer that has other than the usual ones. Most layers have no entry for the
/// root, and their directories then have the usual mode and owner.
fn dress_root(rootfs: &Rootfs) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    const USUAL: (u32, u32, u32) = (0o755, 0, 0);
    for layer in &rootfs.lowers {
        let root = fs::metadata(layer)?;
        let found = (root.mode() & 0o7777, root.uid(), root.gid());
        if found != USUAL {
            chown(&rootfs.upper, Some(found.1), Some(found.2))?;
            return fs::set_permissions(&rootfs.upper, fs::Permissions::from_mode(found.0));
        }
    }
    Ok(())
}

async fn make(
    engine: &Engine,
    mut record: Record,
    entries: Vec<MountEntry>,
    mut leases: Vec<image::Lease>,
) -> Result<()> {
    let inner = engine.inner();
    let directory = inner.containers.join(&record.id);
    let mut ready = Vec::with_capacity(entries.len());
    let mut empty_volumes = Vec::new();
    for mut entry in entries {
        if entry.is_volume() {
            let (volume, fresh) = engine.volumes().for_container(&entry).await?;
            if fresh && !entry.no_copy {
                empty_volumes.push((volume.mountpoint.clone(), entry.point.destination.clone()));
            }
            entry.point.name = volume.name;
            entry.point.source = volume.mountpoint;
        }
        if entry.is_image() {
            let failed = |error| crate::images::failure(&error);
            // Not "not found": for the docker command that would be the container's own image, to be pulled.
            let image = inner
                .images
                .get(&entry.point.source)
                .map_err(|error| Error { kind: crate::error::Kind::InvalidParameter, ..failed(error) })?;
            leases.push(inner.images.hold(&image.id).map_err(failed)?);
            entry.image_id = image.id.to_string();
            entry.layers = inner.images.lower_dirs(&image.id).map_err(failed)?;
        }
        ready.push(entry);
    }
    record.mounts = Arc::new(ready);
    let (container, commands) = Container::new(record, directory.clone(), leases);
    let task = {
        let (engine, container) = (engine.clone(), container.clone());
        move || -> Result<()> {
            let make = |path: &std::path::Path| {
                fs::create_dir(path)
                    .map_err(|error| Error::io(format_args!("cannot create `{}`", path.display()), &error))
            };
            make(&directory)?;
            make(&container.upper())?;
            make(&container.work())?;
            let record = container.now();
            let rootfs = super::launch::rootfs(&engine, &container, &record)?;
            dress_root(&rootfs).map_err(|error| Error::io("cannot prepare the root directory", &error))?;
            if !empty_volumes.is_empty() {
                engine.volumes().hold(&record)?;
                let copied = crate::volumes::copy_up(&engine.inner().runtime, &rootfs, &empty_volumes);
                engine.volumes().release(&record);
                copied?;
            }
            Ok(())
        }
    };
    tokio::task::spawn_blocking(task).await.map_err(Error::system)??;
    let record = container.now();
    inner.store.put("container", &record.id, &*record);
    inner.registry.insert(container.clone());
    inner.events.publish("container", "create", record.actor([]));
    actor::spawn(engine.clone(), container, commands, Beginning::Still);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_new_root_has_the_mode_of_the_topmost_layer_that_says_one() {
        let directory = tempfile::tempdir().unwrap();
        let layer = |name: &str, mode| {
            let path = directory.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let rootfs = Rootfs {
            lowers: vec![layer("top", 0o755), layer("middle", 0o711), layer("bottom", 0o700)],
            upper: layer("upper", 0o755),
            work: directory.path().join("work"),
            target: directory.path().join("target"),
        };
        dress_root(&rootfs).unwrap();
        assert_eq!(fs::metadata(&rootfs.upper).unwrap().permissions().mode() & 0o7777, 0o711);
    }
}
