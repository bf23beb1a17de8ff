//! Where Sampan keeps things on the host: one directory, `~/.sampan`, and nothing outside it but the Docker context.

use std::path::{Path, PathBuf};

/// The directory and what stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    home: PathBuf,
}

impl Paths {
    /// Paths below `home`.
    pub fn new(home: impl Into<PathBuf>) -> Paths {
        Paths { home: home.into() }
    }

    /// The directory itself.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Sockets and locks: what means nothing after a restart of the host.
    pub fn run(&self) -> PathBuf {
        self.home.join("run")
    }

    /// Where Docker's clients connect.
    pub fn docker_socket(&self) -> PathBuf {
        self.run().join("docker.sock")
    }

    /// Where other processes of ours reach the owner of the VM.
    pub fn control_socket(&self) -> PathBuf {
        self.run().join("control.sock")
    }

    /// Locked by the one process that owns the VM.
    pub fn owner_lock(&self) -> PathBuf {
        self.run().join("owner.lock")
    }

    /// Sockets of the running machine.
    pub fn machine(&self) -> PathBuf {
        self.run().join("vm")
    }

    /// The VM's state: the data disk, or the engine's directories without a VM.
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// The VM's disk.
    pub fn data_disk(&self) -> PathBuf {
        self.data().join("data.img")
    }

    /// Logs.
    pub fn logs(&self) -> PathBuf {
        self.home.join("logs")
    }

    /// The console of the VM (or the output of the engine without one).
    pub fn console(&self) -> PathBuf {
        self.logs().join("console.log")
    }

    /// What the background process of `sampan start` prints.
    pub fn daemon_log(&self) -> PathBuf {
        self.logs().join("sampan.log")
    }

    /// The user's settings.
    pub fn settings(&self) -> PathBuf {
        self.home.join("settings.json")
    }
}
