//! One container's cgroup, in the version 2 hierarchy.
//!
//! Where the kernel offers no hierarchy at all, or not all controllers, containers run all the same:
//! [`crate::HostFacts`] says what cannot be enforced. Version 1 hierarchies are never touched.

mod devices;
mod hierarchy;
mod limits;
mod stats;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};

pub(crate) use devices::Program;
pub(crate) use hierarchy::Hierarchy;
pub use stats::{CpuStats, DeviceIo, MemoryStats, PidStats, Stats};

use crate::plan::Resources;

/// How long freezing, and the end of killed processes, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A container's cgroup. Without a version 2 hierarchy every operation fails with `Unsupported`.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: Option<PathBuf>,
    controllers: Vec<String>,
}

impl Cgroup {
    pub(crate) fn new(path: Option<PathBuf>, controllers: Vec<String>) -> Cgroup {
        Cgroup { path, controllers }
    }

    /// Its directory.
    pub fn path(&self) -> io::Result<&Path> {
        self.path.as_deref().ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "the kernel offers no version 2 cgroup hierarchy")
        })
    }

    /// Makes the directory, and says whether there is one.
    pub(crate) fn create(&self) -> io::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // A leftover of a launch that was cut short.
                self.remove()?;
                fs::create_dir(path)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(path)?,
            result => result?,
        }
        Ok(true)
    }

    /// Opens the directory, to be born in.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(self.path()?, flags, Mode::empty())?)
    }

    /// Sets the limits that are said, as far as the controllers are there. Names the file that refused.
    pub fn update(&self, resources: &Resources) -> Result<(), (PathBuf, io::Error)> {
        let Some(path) = &self.path else { return Ok(()) };
        limits::apply(path, &self.controllers, resources)
    }

    /// Kills every process in it and below.
    pub fn kill(&self) -> io::Result<()> {
        let path = self.path()?;
        match fs::write(path.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => {
                // Before Linux 5.14. Those that are born meanwhile are found by the next round.
                for _ in 0..10 {
                    let pids = self.pids()?;
                    if pids.is_empty() {
                        break;
                    }
                    for pid in pids {
                        // It may have ended already.
                        let _ = sys::signal::send(pid, libc::SIGKILL);
                    }
                }
                Ok(())
            }
            result => result,
        }
    }

    /// Stops every process in it, and returns when all stand still.
    pub fn freeze(&self) -> io::Result<()> {
        fs::write(self.path()?.join("cgroup.freeze"), "1")?;
        let frozen = self.wait_for_event("frozen 1", PATIENCE)?;
        if frozen {
            return Ok(());
        }
        self.thaw()?;
        Err(io::Error::new(io::ErrorKind::TimedOut, "not every process could be frozen"))
    }

    /// Lets them go on.
    pub fn thaw(&self) -> io::Result<()> {
        fs::write(self.path()?.join("cgroup.freeze"), "0")
    }

    /// The processes in it and in cgroups below it, as the engine numbers them.
    pub fn pids(&self) -> io::Result<Vec<i32>> {
        let mut pids = Vec::new();
        collect_pids(self.path()?, &mut pids)?;
        pids.sort_unstable();
        Ok(pids)
    }

    /// What it uses.
    pub fn stats(&self) -> io::Result<Stats> {
        stats::read(self.path()?)
    }

    /// How many of its processes the kernel killed for want of memory. 0 without a memory controller.
    pub fn oom_kills(&self) -> io::Result<u64> {
        stats::oom_kills(self.path()?)
    }

    /// The file whose change (`POLLPRI`) says that [`Cgroup::oom_kills`] may have grown. `NotFound` without a
    /// memory controller.
    pub fn memory_events(&self) -> io::Result<OwnedFd> {
        let path = self.path()?.join("memory.events");
        Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?)
    }

    /// Kills what is left in it and removes it, with the cgroups that the container made below it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => {}
        }
        self.kill()?;
        self.wait_for_event("populated 0", PATIENCE)?;
        remove_tree(path)
    }

    /// Waits until `cgroup.events` holds this line; says whether it came in time.
    fn wait_for_event(&self, line: &str, patience: Duration) -> io::Result<bool> {
        let path = self.path()?.join("cgroup.events");
        let deadline = Instant::now() + patience;
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            result => result?,
        };
        loop {
            // The kernel wakes the poll for changes since the last read, so reading first misses nothing.
            let mut text = [0; 256];
            let length = rustix::io::pread(&file, &mut text, 0)?;
            if text[..length].split(|byte| *byte == b'\n').any(|found| found == line.as_bytes()) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            match rustix::event::poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn collect_pids(path: &Path, pids: &mut Vec<i32>) -> io::Result<()> {
    let text = match fs::read_to_string(path.join("cgroup.procs")) {
        // A threaded cgroup lists its processes at its root; a removed one has none.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOENT | libc::ENODEV)) =>
        {
            String::new()
        }
        result => result?,
    };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in subdirectories(path)? {
        collect_pids(&child, pids)?;
    }
    Ok(())
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for child in subdirectories(path)? {
        remove_tree(&child)?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn subdirectories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let mut directories = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            directories.push(entry.path());
        }
    }
    Ok(directories)
}
