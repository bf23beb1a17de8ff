//! The mounts that every program expects.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_move};

/// Gives the process a root that can be left: the kernel refuses `pivot_root` away from the initramfs itself, and
/// every container does just that. So the initramfs is bound onto itself, which costs nothing.
pub(crate) fn own_root() -> anyhow::Result<()> {
    let place = "/run";
    fs::create_dir_all(place)?;
    mount_bind("/", place).context("cannot bind the root")?;
    rustix::process::chdir(place)?;
    mount_move(".", "/").context("cannot move the root")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    // As other inits do: a container may ask for mounts that spread.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)?;
    Ok(())
}

/// What the process itself needs: devices, processes, the kernel's settings.
pub(crate) fn basic() -> anyhow::Result<()> {
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    put("devtmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC, "mode=0755")?;
    put("proc", "/proc", plain, "")?;
    put("sysfs", "/sys", plain, "")?;
    put("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV, "mode=0755")?;
    Ok(())
}

/// What the engine and its containers need.
pub(crate) fn rest() -> anyhow::Result<()> {
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    put("cgroup2", "/sys/fs/cgroup", plain, "nsdelegate,memory_recursiveprot")?;
    put("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, "gid=5,mode=0620,ptmxmode=0666")?;
    put("tmpfs", "/dev/shm", MountFlags::NOSUID | MountFlags::NODEV, "mode=1777")?;
    put("mqueue", "/dev/mqueue", plain, "")?;
    put("tmpfs", "/tmp", MountFlags::NOSUID | MountFlags::NODEV, "mode=1777")?;
    for (link, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        let link = Path::new("/dev").join(link);
        if let Err(error) = std::os::unix::fs::symlink(target, &link)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error).with_context(|| format!("cannot make `{}`", link.display()));
        }
    }
    delegate_controllers(Path::new("/sys/fs/cgroup"))
}

/// Hands every controller to the groups below, which is where containers are.
fn delegate_controllers(root: &Path) -> anyhow::Result<()> {
    let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
    let wanted: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    fs::write(root.join("cgroup.subtree_control"), wanted.join(" ")).context("cannot delegate controllers")
}

fn put(kind: &str, target: &str, flags: MountFlags, options: &str) -> anyhow::Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot make `{target}`"))?;
    let options = std::ffi::CString::new(options)?;
    mount(kind, target, kind, flags, Some(options.as_c_str()))
        .with_context(|| format!("cannot mount {kind} on `{target}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_controller_there_is_gets_delegated() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        delegate_controllers(root.path()).unwrap();
        let written = fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap();
        assert_eq!(written, "+cpu +memory +pids");
    }
}
