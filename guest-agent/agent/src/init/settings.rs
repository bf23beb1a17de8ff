//! Names, limits and kernel settings of the VM.

use std::fs;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, setrlimit};

const HOSTNAME: &str = "sampan";

/// Kernel settings that containers expect of a host which is there for them.
const SYSCTLS: [(&str, &str); 9] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/core/somaxconn", "4096"),
    ("vm/max_map_count", "1048576"),
    ("fs/inotify/max_user_instances", "8192"),
    ("fs/inotify/max_user_watches", "1048576"),
    ("kernel/keys/maxkeys", "20000"),
    ("kernel/keys/maxbytes", "2000000"),
    // A stuck task is worth a line; the default of a full stack on the console is not.
    ("kernel/hung_task_warnings", "1"),
    // Dropped caches are memory that the host gets back.
    ("vm/page-cluster", "0"),
];

/// Applies everything.
pub(crate) fn apply() -> anyhow::Result<()> {
    rustix::system::sethostname(HOSTNAME.as_bytes()).context("cannot set the host name")?;
    sys::interface::bring_loopback_up().context("cannot set the loopback interface up")?;
    for (name, value) in SYSCTLS {
        let path = format!("/proc/sys/{name}");
        // A kernel may lack one; the VM works without.
        if let Err(error) = fs::write(&path, value) {
            tracing::warn!(%error, "cannot set `{path}`");
        }
    }
    let open_files = Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
    setrlimit(Resource::Nofile, open_files).context("cannot raise the limit of open files")?;
    let unlimited = Rlimit { current: None, maximum: None };
    setrlimit(Resource::Nproc, unlimited).context("cannot lift the limit of processes")?;
    fs::create_dir_all("/etc")?;
    fs::write("/etc/hostname", format!("{HOSTNAME}\n"))?;
    fs::write("/etc/hosts", format!("127.0.0.1\tlocalhost {HOSTNAME}\n::1\tlocalhost\n"))?;
    fs::write("/etc/os-release", "ID=sampan\nNAME=Sampan\nPRETTY_NAME=\"Sampan\"\n")?;
    fs::write("/etc/passwd", "root:x:0:0:root:/:/sbin/nologin\n")?;
    fs::write("/etc/group", "root:x:0:\n")?;
    Ok(())
}
