//! Volumes: directories that outlive containers, driver `local`.

mod local;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::containers::spec::record;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::time::Time;

pub(crate) use local::Mounted;

/// A volume, in Docker's JSON and at rest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    /// When it was made.
    pub created_at: Time,
    /// `local`.
    pub driver: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Where its content is.
    pub mountpoint: String,
    /// Its name.
    pub name: String,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// `local`.
    pub scope: String,
    /// Size and users, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<UsageData>,
}

/// Size and users of a volume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UsageData {
    /// Containers that use it.
    pub ref_count: i64,
    /// Bytes.
    pub size: i64,
}

record! {
    /// `POST /volumes/create`.
    pub struct CreateVolume {
        /// Its name; one is made up when empty.
        pub name: String,
        /// `local`.
        pub driver: String,
        /// Options of the driver.
        pub driver_opts: BTreeMap<String, String>,
        /// Labels.
        pub labels: BTreeMap<String, String>,
    }
}

/// The answer to `GET /volumes`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeList {
    /// The volumes.
    pub volumes: Vec<Volume>,
    /// What went wrong while listing.
    pub warnings: Option<Vec<String>>,
}

/// The answer to `POST /volumes/prune`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumesPruned {
    /// What went.
    pub volumes_deleted: Vec<String>,
    /// Bytes given back.
    pub space_reclaimed: u64,
}

/// The volumes' half of the engine; see [`crate::Engine::volumes`].
#[derive(Clone)]
pub struct Volumes {
    pub(crate) engine: crate::Engine,
}

/// The volumes, as they are now.
#[derive(Default)]
pub(crate) struct Table(std::sync::Mutex<BTreeMap<String, Volume>>);

impl Table {
    pub(crate) fn new(volumes: impl IntoIterator<Item = Volume>) -> Self {
        let volumes = volumes.into_iter().map(|volume| (volume.name.clone(), volume)).collect();
        Table(std::sync::Mutex::new(volumes))
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Volume>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.all().contains_key(name)
    }
}

/// Refuses names that would lead out of the volumes' directory.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if first && rest && name.len() > 1 {
        return Ok(());
    }
    Err(Error::invalid(format_args!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

fn missing(name: &str) -> Error {
    Error::not_found(format_args!("get {name}: no such volume"))
}

/// Filters of the list.
const ACCEPTED: [&str; 5] = ["dangling", "driver", "label", "label!", "name"];

/// The label of a volume that nobody named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

impl Volumes {
    fn table(&self) -> &Table {
        &self.engine.inner().volumes
    }

    /// Ids of the containers that use a volume.
    fn users(&self, name: &str) -> Vec<String> {
        let all = self.engine.inner().registry.all();
        let uses = |record: &crate::containers::record::Record| {
            record.mounts.iter().any(|entry| entry.is_volume() && entry.point.name == name)
        };
        all.into_iter()
            .filter(|container| uses(&container.now()))
            .map(|container| container.id.clone())
            .collect()
    }

    /// The list.
    pub async fn list(&self, filters: Filters) -> Result<VolumeList> {
        filters.accept(&ACCEPTED)?;
        let dangling = filters.flag("dangling")?;
        let all: Vec<Volume> = self.table().all().values().cloned().collect();
        let fits = |volume: &Volume| {
            filters.any("name", |wanted| volume.name.contains(wanted))
                && filters.exact("driver", &volume.driver)
                && filters.labels(volume.labels.as_ref().unwrap_or(&BTreeMap::new()))
                && dangling.is_none_or(|dangling| dangling == self.users(&volume.name).is_empty())
        };
        Ok(VolumeList { volumes: all.into_iter().filter(fits).collect(), warnings: None })
    }

    /// One volume.
    pub async fn inspect(&self, name: &str) -> Result<Volume> {
        self.table().all().get(name).cloned().ok_or_else(|| missing(name))
    }

    /// Makes a volume; one of that name already there is the answer.
    pub async fn create(&self, request: CreateVolume) -> Result<Volume> {
        self.make(request).await.map(|(volume, _)| volume)
    }

    /// The volume that a container mounts, and whether it is new.
    pub(crate) async fn for_container(
        &self,
        entry: &crate::containers::mounts::MountEntry,
    ) -> Result<(Volume, bool)> {
        let mut labels = entry.volume_labels.clone();
        if entry.anonymous && entry.point.name.is_empty() {
            labels.insert(ANONYMOUS.into(), String::new());
        }
        let request = CreateVolume {
            name: entry.point.name.clone(),
            driver: "local".into(),
            driver_opts: entry.volume_options.clone(),
            labels,
        };
        let (volume, made) = self.make(request).await?;
        if made {
            return Ok((volume, true));
        }
        let path = volume.mountpoint.clone();
        let empty = tokio::task::spawn_blocking(move || {
            std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
        });
        let empty = empty.await.map_err(Error::system)?;
        Ok((volume, empty))
    }

    async fn make(&self, request: CreateVolume) -> Result<(Volume, bool)> {
        if !matches!(request.driver.as_str(), "" | "local") {
            let driver = &request.driver;
            return Err(Error::not_found(format_args!(
                "error looking up volume plugin {driver}: plugin \"{driver}\" not found"
            )));
        }
        let name = if request.name.is_empty() { crate::containers::names::id()? } else { request.name };
        check_name(&name)?;
        if let Some(volume) = self.table().all().get(&name) {
            return Ok((volume.clone(), false));
        }
        local::check(&request.driver_opts)
            .map_err(|error| Error { message: format!("create {name}: {}", error.message), ..error })?;
        let directory = self.engine.inner().volume_root.join(&name);
        let content = directory.join("_data");
        let path = content.clone();
        let made = tokio::task::spawn_blocking(move || std::fs::create_dir_all(path));
        made.await.map_err(Error::system)?.map_err(|error| {
            Error::io(format_args!("error while creating volume path '{}'", content.display()), &error)
        })?;
        let volume = Volume {
            created_at: Time::from_unix_nanos(Time::now().unix() * 1_000_000_000),
            driver: "local".into(),
            labels: Some(request.labels).filter(|labels| !labels.is_empty()),
            mountpoint: content.to_string_lossy().into_owned(),
            name: name.clone(),
            options: Some(request.driver_opts).filter(|options| !options.is_empty()),
            scope: "local".into(),
            usage_data: None,
        };
        // Somebody may have made it meanwhile; theirs is the same directory.
        if let Some(volume) = self.table().all().get(&name) {
            return Ok((volume.clone(), false));
        }
        self.table().all().insert(name.clone(), volume.clone());
        self.engine.inner().store.put("volume", &name, &volume);
        self.event("create", &name);
        Ok((volume, true))
    }

    fn event(&self, action: &str, name: &str) {
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        let actor = crate::events::Actor { id: name.to_owned(), attributes };
        self.engine.inner().events.publish("volume", action, actor);
    }

    /// Removes a volume that no container uses.
    pub async fn remove(&self, name: &str, force: bool) -> Result<()> {
        if !self.table().contains(name) {
            return if force { Ok(()) } else { Err(missing(name)) };
        }
        let users = self.users(name);
        if !users.is_empty() {
            return Err(Error::conflict(format_args!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        let inner = self.engine.inner();
        let (directory, trash) = (inner.volume_root.join(name), inner.trash.join(format!("volume-{name}")));
        let moved = tokio::task::spawn_blocking(move || {
            // What a crash left there is older.
            crate::containers::remove::empty(&trash);
            match std::fs::rename(&directory, &trash) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(trash),
            }
        });
        let trash = moved
            .await
            .map_err(Error::system)?
            .map_err(|error| Error::io(format_args!("unable to remove volume {name}"), &error))?;
        self.table().all().remove(name);
        inner.store.delete("volume", name);
        self.event("destroy", name);
        tokio::task::spawn_blocking(move || crate::containers::remove::empty(&trash));
        Ok(())
    }

    /// Removes volumes that no container uses: anonymous ones, or with the filter `all` every one.
    pub async fn prune(&self, filters: Filters) -> Result<VolumesPruned> {
        filters.accept(&["label", "label!", "all"])?;
        let all = filters.flag("all")?.unwrap_or(false);
        let mut pruned = VolumesPruned::default();
        for volume in self.list(Filters::default()).await?.volumes {
            let labels = volume.labels.unwrap_or_default();
            if !(all || labels.contains_key(ANONYMOUS)) || !filters.labels(&labels) {
                continue;
            }
            let path = std::path::PathBuf::from(&volume.mountpoint);
            let size = tokio::task::spawn_blocking(move || tree_size(&path)).await.map_err(Error::system)?;
            if self.remove(&volume.name, false).await.is_ok() {
                pruned.volumes_deleted.push(volume.name);
                pruned.space_reclaimed += size;
            }
        }
        let attributes = BTreeMap::from([("reclaimed".to_owned(), pruned.space_reclaimed.to_string())]);
        let actor = crate::events::Actor { id: String::new(), attributes };
        self.engine.inner().events.publish("volume", "prune", actor);
        Ok(pruned)
    }

    /// The list with sizes and users.
    pub(crate) async fn usage(&self) -> Result<Vec<Volume>> {
        let mut volumes = self.list(Filters::default()).await?.volumes;
        for volume in &mut volumes {
            let path = std::path::PathBuf::from(&volume.mountpoint);
            let size = tokio::task::spawn_blocking(move || tree_size(&path)).await.map_err(Error::system)?;
            let users = self.users(&volume.name).len();
            volume.usage_data = Some(UsageData {
                ref_count: i64::try_from(users).unwrap_or(i64::MAX),
                size: i64::try_from(size).unwrap_or(i64::MAX),
            });
        }
        Ok(volumes)
    }
}

/// Bytes of the files below a directory.
pub(crate) fn tree_size(path: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries
        .filter_map(std::result::Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => tree_size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Fills new volumes with what the image has at their places: pairs of the volume's directory and the place.
pub(crate) fn copy_up(
    runtime: &runtime::Runtime,
    rootfs: &runtime::Rootfs,
    volumes: &[(String, String)],
) -> Result<()> {
    let root =
        runtime.mount_rootfs(rootfs).map_err(|error| Error::io("cannot look into the image", &error))?;
    for (volume, place) in volumes {
        // What a volume's options mount there may have content already.
        if std::fs::read_dir(volume).is_ok_and(|mut entries| entries.next().is_some()) {
            continue;
        }
        crate::copy::copy_up(&root, std::path::Path::new(place), std::path::Path::new(volume))
            .map_err(|error| Error::io(format_args!("failed to populate volume from `{place}`"), &error))?;
    }
    Ok(())
}
