//! What a container mounts: binds, volumes and tmpfs, from the three ways in which Docker lets one say it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use runtime::{Mount as PlanMount, MountKind, Propagation, TmpfsOptions};
use serde::{Deserialize, Serialize};

use super::spec::{Config, HostConfig, Mount};
use super::view::MountPoint;
use crate::error::{Error, Result};

/// A mount as inspect shows it, with what the launch needs beside that.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MountEntry {
    pub(crate) point: MountPoint,
    /// A volume that nobody named: it may go with its container.
    pub(crate) anonymous: bool,
    /// Without the image's content.
    pub(crate) no_copy: bool,
    pub(crate) subpath: String,
    pub(crate) non_recursive: bool,
    pub(crate) readonly_top_only: bool,
    /// Make a missing source.
    pub(crate) make_source: bool,
    /// Options of a tmpfs.
    pub(crate) tmpfs: String,
    /// Options and labels of a volume made here.
    pub(crate) volume_options: BTreeMap<String, String>,
    pub(crate) volume_labels: BTreeMap<String, String>,
    /// The id of a mounted image, and where its layers are, the top one first.
    pub(crate) image_id: String,
    pub(crate) layers: Vec<PathBuf>,
}

impl MountEntry {
    pub(crate) fn is_volume(&self) -> bool {
        self.point.r#type == "volume"
    }

    pub(crate) fn is_image(&self) -> bool {
        self.point.r#type == "image"
    }

    /// The mount for the runtime. `docker_socket` is where a bind of `docker.sock` leads.
    pub(crate) fn plan(&self, docker_socket: Option<&Path>) -> Result<PlanMount> {
        let target = PathBuf::from(&self.point.destination);
        let subpath = (!self.subpath.is_empty()).then(|| PathBuf::from(&self.subpath));
        let kind = if self.is_image() {
            MountKind::Layers { layers: self.layers.clone(), subpath }
        } else if self.point.r#type == "tmpfs" {
            MountKind::Tmpfs(TmpfsOptions::parse(&self.tmpfs).map_err(Error::invalid)?)
        } else {
            let source = match docker_socket {
                Some(socket) if is_docker_socket(&self.point.destination) => socket.to_owned(),
                _ => PathBuf::from(&self.point.source),
            };
            MountKind::Bind {
                source,
                subpath,
                recursive: !self.non_recursive,
                propagation: match self.point.propagation.trim_start_matches('r') {
                    "shared" => Propagation::Shared,
                    "slave" => Propagation::Slave,
                    _ => Propagation::Private,
                },
                readonly_top_only: self.readonly_top_only,
            }
        };
        Ok(PlanMount { kind, target, readonly: !self.point.rw })
    }
}

/// Clients bind whatever path their own machine has its socket at; what they mean is told by the destination.
pub(crate) fn is_docker_socket(destination: &str) -> bool {
    let destination = destination.to_ascii_lowercase();
    destination == "/var/run/docker.sock" || destination == "/run/docker.sock"
}

/// Every mount of a container, in the order in which they must be made. `from` gives another container's.
pub(crate) fn resolve(
    config: &Config,
    host: &HostConfig,
    from: impl Fn(&str) -> Result<Vec<MountEntry>>,
) -> Result<Vec<MountEntry>> {
    let mut entries: BTreeMap<String, MountEntry> = BTreeMap::new();
    for source in host.volumes_from.iter().flatten() {
        let (name, mode) = source.split_once(':').unwrap_or((source, "rw"));
        if !matches!(mode, "rw" | "ro" | "z" | "Z") {
            return Err(Error::invalid(format_args!("invalid mode for volumes-from: {mode}")));
        }
        for mut entry in from(name)? {
            entry.anonymous = false;
            entry.point.rw &= mode != "ro";
            entries.insert(entry.point.destination.clone(), entry);
        }
    }
    let mut own: BTreeMap<String, MountEntry> = BTreeMap::new();
    let binds = host.binds.iter().flatten().map(|bind| parse_bind(bind, &host.volume_driver));
    let mounts = host.mounts.iter().flatten().map(parse_mount);
    for entry in binds.chain(mounts) {
        let entry = entry?;
        let destination = entry.point.destination.clone();
        let taken = host.tmpfs.iter().flatten().any(|(path, _)| clean(path) == destination);
        if taken || own.insert(destination.clone(), entry).is_some() {
            return Err(Error::invalid(format_args!("Duplicate mount point: {destination}")));
        }
    }
    for (path, options) in host.tmpfs.iter().flatten() {
        let destination = target(path)?;
        TmpfsOptions::parse(options).map_err(Error::invalid)?;
        let point = MountPoint {
            r#type: "tmpfs".into(),
            destination: destination.clone(),
            mode: options.clone(),
            rw: true,
            ..MountPoint::default()
        };
        own.insert(destination, MountEntry { point, tmpfs: options.clone(), ..MountEntry::default() });
    }
    entries.append(&mut own);
    for path in config.volumes.iter().flatten().map(|(path, _)| path) {
        let destination = target(path)?;
        entries.entry(destination.clone()).or_insert_with(|| volume("", &destination));
    }
    let mut entries: Vec<MountEntry> = entries.into_values().collect();
    entries.sort_by_key(|entry| entry.point.destination.matches('/').count());
    Ok(entries)
}

fn volume(name: &str, destination: &str) -> MountEntry {
    MountEntry {
        point: MountPoint {
            r#type: "volume".into(),
            name: name.to_owned(),
            destination: destination.to_owned(),
            driver: "local".into(),
            rw: true,
            ..MountPoint::default()
        },
        anonymous: name.is_empty(),
        ..MountEntry::default()
    }
}

/// An absolute path without `.`, `..` and doubled slashes.
pub(crate) fn clean(path: &str) -> String {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean.to_string_lossy().into_owned()
}

fn target(path: &str) -> Result<String> {
    if !path.starts_with('/') {
        return Err(Error::invalid(format_args!("invalid mount path: '{path}' mount path must be absolute")));
    }
    match clean(path) {
        root if root == "/" => {
            Err(Error::invalid(format_args!("invalid specification: destination can't be '/'")))
        }
        destination => Ok(destination),
    }
}

/// `[source:]destination[:options]`.
fn parse_bind(text: &str, driver: &str) -> Result<MountEntry> {
    let invalid = || Error::invalid(format_args!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, mode) = match parts[..] {
        [destination] => ("", destination, ""),
        [source, destination] => (source, destination, ""),
        [source, destination, mode] => (source, destination, mode),
        _ => return Err(invalid()),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(invalid());
    }
    let destination = target(destination)?;
    let mut entry = if source.starts_with('/') {
        MountEntry {
            point: MountPoint {
                r#type: "bind".into(),
                source: clean(source),
                destination,
                rw: true,
                propagation: "rprivate".into(),
                ..MountPoint::default()
            },
            make_source: true,
            ..MountEntry::default()
        }
    } else {
        if !driver.is_empty() && driver != "local" {
            return Err(Error::not_found(format_args!(
                "error looking up volume plugin {driver}: plugin \"{driver}\" not found"
            )));
        }
        if !source.is_empty() {
            crate::volumes::check_name(source)?;
        }
        volume(source, &destination)
    };
    entry.point.mode = mode.to_owned();
    for option in mode.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" | "copy" => {}
            "ro" => entry.point.rw = false,
            "nocopy" if entry.is_volume() => entry.no_copy = true,
            "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" if !entry.is_volume() => {
                entry.point.propagation = option.to_owned();
            }
            _ => return Err(Error::invalid(format_args!("invalid mode: {mode}"))),
        }
    }
    Ok(entry)
}

fn parse_mount(mount: &Mount) -> Result<MountEntry> {
    let wrong = |what: &str| {
        Error::invalid(format_args!("invalid mount config for type \"{}\": {what}", mount.r#type))
    };
    if mount.target.is_empty() {
        return Err(wrong("field Target must not be empty"));
    }
    let destination = target(&mount.target).map_err(|error| wrong(&error.message))?;
    let mut entry = match mount.r#type.as_str() {
        "bind" => bind(mount, destination, wrong)?,
        "volume" => {
            let mut entry = volume(&mount.source, &destination);
            if !mount.source.is_empty() {
                crate::volumes::check_name(&mount.source)?;
            }
            if let Some(options) = &mount.volume_options {
                entry.no_copy = options.no_copy;
                entry.subpath.clone_from(&options.subpath);
                entry.volume_labels.clone_from(&options.labels);
                if let Some(driver) = &options.driver_config {
                    if !matches!(driver.name.as_str(), "" | "local") {
                        let name = &driver.name;
                        return Err(Error::not_found(format_args!(
                            "error looking up volume plugin {name}: plugin \"{name}\" not found"
                        )));
                    }
                    entry.volume_options.clone_from(&driver.options);
                }
            }
            entry
        }
        "tmpfs" => tmpfs(mount, destination),
        "image" => {
            if mount.source.is_empty() {
                return Err(wrong("field Source must not be empty"));
            }
            let subpath = mount.image_options.as_ref().map(|options| options.subpath.clone());
            MountEntry {
                point: MountPoint {
                    r#type: "image".into(),
                    source: mount.source.clone(),
                    destination,
                    ..MountPoint::default()
                },
                subpath: subpath.unwrap_or_default(),
                ..MountEntry::default()
            }
        }
        other => return Err(Error::invalid(format_args!("mount type unknown: \"{other}\""))),
    };
    // An image is what it is.
    entry.point.rw = !mount.read_only && !entry.is_image();
    Ok(entry)
}

fn bind(mount: &Mount, destination: String, wrong: impl Fn(&str) -> Error) -> Result<MountEntry> {
    if !mount.source.starts_with('/') {
        return Err(wrong(&format!("invalid mount path: '{}' mount path must be absolute", mount.source)));
    }
    let options = mount.bind_options.clone().unwrap_or_default();
    let make_source = options.create_mountpoint;
    if !make_source && !is_docker_socket(&destination) && !Path::new(&mount.source).exists() {
        return Err(wrong(&format!("bind source path does not exist: {}", mount.source)));
    }
    let propagation = if options.propagation.is_empty() { "rprivate".into() } else { options.propagation };
    Ok(MountEntry {
        point: MountPoint {
            r#type: "bind".into(),
            source: clean(&mount.source),
            destination,
            propagation,
            ..MountPoint::default()
        },
        make_source,
        non_recursive: options.non_recursive,
        readonly_top_only: options.read_only_non_recursive,
        ..MountEntry::default()
    })
}

fn tmpfs(mount: &Mount, destination: String) -> MountEntry {
    let mut words = Vec::new();
    if let Some(options) = &mount.tmpfs_options {
        if options.size_bytes > 0 {
            words.push(format!("size={}", options.size_bytes));
        }
        if let Some(mode) = options.mode {
            words.push(format!("mode={mode:o}"));
        }
        words.extend(options.options.iter().flatten().map(|pair| pair.join("=")));
    }
    MountEntry {
        point: MountPoint { r#type: "tmpfs".into(), destination, ..MountPoint::default() },
        tmpfs: words.join(","),
        ..MountEntry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(name: &str) -> Result<Vec<MountEntry>> {
        Err(Error::not_found(name))
    }

    fn of(binds: &[&str]) -> Result<Vec<MountEntry>> {
        let host = HostConfig {
            binds: Some(binds.iter().map(|bind| (*bind).to_owned()).collect()),
            ..HostConfig::default()
        };
        resolve(&Config::default(), &host, none)
    }

    #[test]
    fn a_bind_has_a_path_and_a_volume_a_name() {
        let entries = of(&["/srv/../data:/data:ro,z", "cache:/var/cache:nocopy"]).unwrap();
        assert_eq!(entries[0].point.source, "/data");
        assert!(!entries[0].point.rw && entries[0].make_source);
        assert!(entries[1].is_volume() && entries[1].no_copy && !entries[1].anonymous);
    }

    #[test]
    fn parents_are_mounted_before_children_and_the_image_s_volumes_give_way() {
        let config: Config = serde_json::from_str(r#"{"Volumes":{"/a/b/c":{},"/x":{}}}"#).unwrap();
        let host =
            HostConfig { binds: Some(vec!["/h:/a/b/c".into(), "/h:/a".into()]), ..HostConfig::default() };
        let entries = resolve(&config, &host, none).unwrap();
        let shown: Vec<(&str, &str)> =
            entries.iter().map(|entry| (&entry.point.r#type[..], &entry.point.destination[..])).collect();
        assert_eq!(shown, [("bind", "/a"), ("volume", "/x"), ("bind", "/a/b/c")]);
    }

    #[test]
    fn what_can_t_be_mounted_is_refused_in_dockerd_s_words() {
        let message = |binds: &[&str]| of(binds).unwrap_err().message;
        assert_eq!(message(&["/a:/b", "/c:/b"]), "Duplicate mount point: /b");
        assert_eq!(message(&["/a:b"]), "invalid mount path: 'b' mount path must be absolute");
        assert_eq!(message(&["/a:/b:odd"]), "invalid mode: odd");
        assert_eq!(message(&["/a:/"]), "invalid specification: destination can't be '/'");
        assert!(message(&["a/b:/c"]).contains("includes invalid characters for a local volume name"));
    }

    #[test]
    fn docker_sock_is_known_by_its_destination() {
        let entry = of(&["/home/me/.colima/docker.sock:/var/run/docker.sock"]).unwrap().remove(0);
        let plan = entry.plan(Some(Path::new("/run/api.sock"))).unwrap();
        assert!(matches!(plan.kind, MountKind::Bind { source, .. } if source == Path::new("/run/api.sock")));
    }
}
