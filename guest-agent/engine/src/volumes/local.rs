//! What the local driver mounts for a volume with options: a tmpfs, a directory of the machine, NFS, a device.
//!
//! Such a volume is mounted at its place while a container that uses it runs, and for as long as anyone does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::{Volume, Volumes};
use crate::containers::record::Record;
use crate::error::{Error, Result};

/// Each option, and those that it is nothing without.
const OPTIONS: [(&str, &[&str]); 4] =
    [("type", &["device"]), ("device", &["type"]), ("o", &["device", "type"]), ("size", &[])];

/// Refuses options that can't be meant.
pub(super) fn check(options: &BTreeMap<String, String>) -> Result<()> {
    for name in options.keys() {
        let Some((_, required)) = OPTIONS.iter().find(|(known, _)| known == name) else {
            return Err(Error::invalid(format_args!("invalid option: \"{name}\"")));
        };
        if name == "size" {
            return Err(Error::invalid("quota size requested but no quota support"));
        }
        if let Some(missing) = required.iter().find(|other| !options.contains_key(**other)) {
            return Err(Error::invalid(format_args!("missing required option: \"{missing}\"")));
        }
    }
    Ok(())
}

/// What mount(2) takes.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    flags: MountFlags,
    recursive: bool,
    propagation: Option<MountPropagationFlags>,
    data: String,
}

impl Call {
    /// Reads `o`: words that the kernel has flags for, and what is left for the file system.
    fn parse(options: &str) -> Call {
        let mut call =
            Call { flags: MountFlags::empty(), recursive: false, propagation: None, data: String::new() };
        let mut data = Vec::new();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let flag = match option {
                "ro" => MountFlags::RDONLY,
                "nosuid" => MountFlags::NOSUID,
                "nodev" => MountFlags::NODEV,
                "noexec" => MountFlags::NOEXEC,
                "sync" => MountFlags::SYNCHRONOUS,
                "dirsync" => MountFlags::DIRSYNC,
                "noatime" => MountFlags::NOATIME,
                "nodiratime" => MountFlags::NODIRATIME,
                "relatime" => MountFlags::RELATIME,
                "strictatime" => MountFlags::STRICTATIME,
                "bind" => MountFlags::BIND,
                "rbind" => {
                    call.recursive = true;
                    MountFlags::BIND
                }
                "rw" | "suid" | "dev" | "exec" | "async" | "atime" | "diratime" | "defaults" => {
                    MountFlags::empty()
                }
                "private" | "rprivate" => {
                    call.propagation = Some(MountPropagationFlags::PRIVATE);
                    MountFlags::empty()
                }
                "slave" | "rslave" => {
                    call.propagation = Some(MountPropagationFlags::DOWNSTREAM);
                    MountFlags::empty()
                }
                "shared" | "rshared" => {
                    call.propagation = Some(MountPropagationFlags::SHARED);
                    MountFlags::empty()
                }
                other => {
                    data.push(other);
                    MountFlags::empty()
                }
            };
            call.flags |= flag;
        }
        call.data = data.join(",");
        call
    }

    fn mount(&self, kind: &str, device: &str, target: &Path) -> io::Result<()> {
        if self.flags.contains(MountFlags::BIND) {
            if self.recursive {
                rustix::mount::mount_bind_recursive(device, target)?;
            } else {
                rustix::mount::mount_bind(device, target)?;
            }
            // A bind takes its flags only when it is there.
            let flags = self.flags - MountFlags::BIND;
            if !flags.is_empty() {
                rustix::mount::mount_remount(target, flags | MountFlags::BIND, "")?;
            }
        } else {
            let data = std::ffi::CString::new(self.data.as_str())?;
            rustix::mount::mount(device, target, kind, self.flags, Some(data.as_c_str()))?;
        }
        if let Some(propagation) = self.propagation {
            rustix::mount::mount_change(target, propagation)?;
        }
        Ok(())
    }
}

/// Which containers keep which volumes mounted.
#[derive(Debug, Default)]
pub(crate) struct Mounted(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl Mounted {
    /// Mounts a volume for a container, unless it is. Blocks.
    fn hold(&self, volume: &Volume, container: &str) -> Result<()> {
        let Some(options) = volume.options.as_ref().filter(|options| options.contains_key("device")) else {
            return Ok(());
        };
        // Mounting and unmounting of one volume must not overlap.
        let mut holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let option = |name: &str| options.get(name).map_or("", String::as_str);
        let (kind, device) = (option("type"), option("device"));
        let target = Path::new(&volume.mountpoint);
        if !target.exists() {
            std::fs::create_dir(target)
                .map_err(|error| Error::io(format_args!("cannot create `{}`", target.display()), &error))?;
        }
        if !is_mounted(target) {
            let call = Call::parse(option("o"));
            call.mount(kind, device, target).map_err(|error| {
                let cause = rustix::io::Errno::from_io_error(&error).map_or_else(
                    || error.to_string(),
                    |errno| io::Error::from(errno).to_string().to_lowercase(),
                );
                let cause = cause.split(" (os error").next().unwrap_or_default();
                Error::system(format_args!(
                    "error while mounting volume '{}': failed to mount local volume: mount {device}:{}, data: {}: {cause}",
                    volume.mountpoint, volume.mountpoint, call.data
                ))
            })?;
        }
        holders.entry(volume.name.clone()).or_default().insert(container.to_owned());
        Ok(())
    }

    /// Lets go of a volume; the last one unmounts it. Blocks.
    fn release(&self, volume: &Volume, container: &str) {
        let mut holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = holders.get_mut(&volume.name) else { return };
        own.remove(container);
        if !own.is_empty() {
            return;
        }
        holders.remove(&volume.name);
        let target = Path::new(&volume.mountpoint);
        if is_mounted(target)
            && let Err(error) = rustix::mount::unmount(target, UnmountFlags::DETACH)
        {
            tracing::warn!("volume {} stays mounted: {error}", volume.name);
        }
    }
}

fn is_mounted(path: &Path) -> bool {
    rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS)
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

impl Volumes {
    fn with_options(&self, record: &Record) -> Vec<Volume> {
        let memory = self.shared_memory(record);
        let all = self.table().all();
        let volumes = record.mounts.iter().filter(|entry| entry.is_volume());
        volumes
            .filter_map(|entry| all.get(&entry.point.name))
            .filter(|volume| volume.options.is_some())
            .cloned()
            .chain(memory)
            .collect()
    }

    /// What containers that share one IPC namespace have at /dev/shm, as if it were a volume.
    fn shared_memory(&self, record: &Record) -> Option<Volume> {
        let donor = match record.host_config.ipc_mode.strip_prefix("container:") {
            Some(name) => self.engine.inner().registry.get(name).ok()?,
            None if record.host_config.ipc_mode == "shareable" => {
                self.engine.inner().registry.get(&record.id).ok()?
            }
            None => return None,
        };
        let size = donor.now().host_config.shm_size;
        let options = [
            ("type", "tmpfs".to_owned()),
            ("device", "shm".to_owned()),
            ("o", format!("nosuid,nodev,noexec,mode=1777,size={size}")),
        ];
        Some(Volume {
            // No volume's name has a slash.
            name: format!("shm/{}", donor.id),
            mountpoint: donor.file("shm").to_string_lossy().into_owned(),
            options: Some(options.map(|(name, value)| (name.to_owned(), value)).into()),
            ..Volume::default()
        })
    }

    /// Mounts what a container's volumes are made of. Blocks.
    pub(crate) fn hold(&self, record: &Record) -> Result<()> {
        for volume in self.with_options(record) {
            if let Err(error) = self.engine.inner().mounted.hold(&volume, &record.id) {
                self.release(record);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Unmounts what no other container keeps. Blocks.
    pub(crate) fn release(&self, record: &Record) {
        for volume in self.with_options(record) {
            self.engine.inner().mounted.release(&volume, &record.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_need_one_another() {
        let refusal = |pairs: &[(&str, &str)]| check(&options(pairs)).unwrap_err().message;
        assert_eq!(refusal(&[("colour", "x")]), "invalid option: \"colour\"");
        assert_eq!(refusal(&[("type", "tmpfs")]), "missing required option: \"device\"");
        assert_eq!(refusal(&[("o", "x"), ("device", "y")]), "missing required option: \"type\"");
        assert!(refusal(&[("size", "1m")]).contains("no quota support"));
        assert!(check(&options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")])).is_ok());
    }

    #[test]
    fn flags_are_told_from_data() {
        let call = Call::parse("ro,size=1m,noexec,uid=5");
        assert_eq!(
            (call.flags, call.data.as_str()),
            (MountFlags::RDONLY | MountFlags::NOEXEC, "size=1m,uid=5")
        );
        assert!(Call::parse("rbind").recursive);
    }
}
