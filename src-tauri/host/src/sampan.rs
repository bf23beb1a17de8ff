//! The facade: what the window and the command do with the VM.
//!
//! One process owns the VM: whoever opened Sampan first. Another one that opens it follows the owner over its
//! control socket, with the same calls, and takes over once the owner is gone.

use std::sync::Arc;

use tokio::sync::watch;

use crate::docker;
use crate::hypervisor::Hypervisor;
use crate::model::{Failure, StageReport, VmState, VmStatus};
use crate::settings::Settings;

/// The VM and all around it. Cheap to clone.
#[derive(Clone)]
pub struct Sampan {
    settings: Arc<Settings>,
    status: watch::Receiver<VmStatus>,
}

/// A start under way.
pub struct Boot {
    status: watch::Receiver<VmStatus>,
    seen: usize,
}

impl Sampan {
    /// Takes ownership of the VM, or follows the process that has it. Starts nothing. Must be called within a tokio runtime.
    pub async fn open(_settings: Settings, _hypervisor: Arc<dyn Hypervisor>) -> Result<Sampan, Failure> {
        Err(Failure::new(crate::model::FailureKind::System, "not built yet"))
    }

    /// The settings that it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Powers the VM on; returns at once. A VM that is running or starting is left alone.
    pub async fn start(&self) -> Result<Boot, Failure> {
        Ok(Boot { status: self.status.clone(), seen: 0 })
    }

    /// Shuts the VM down and waits for its end. A VM that is stopped is left alone.
    pub async fn stop(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// All that is known now.
    pub fn status(&self) -> VmStatus {
        self.status.borrow().clone()
    }

    /// Each change of the status.
    pub fn watch(&self) -> watch::Receiver<VmStatus> {
        self.status.clone()
    }

    /// The last `lines` lines of the VM's console.
    pub async fn console(&self, _lines: usize) -> Result<String, Failure> {
        Ok(String::new())
    }

    /// A client of the engine.
    pub fn docker(&self) -> docker::Client {
        docker::Client::unix(self.settings.paths.docker_socket())
    }

    /// Stops the VM if this process owns it, and gives the ownership up. To be awaited before the process ends.
    pub async fn close(self) -> Result<(), Failure> {
        Ok(())
    }
}

impl Boot {
    /// The next stage that is done; none when the start has ended, well or not.
    pub async fn next(&mut self) -> Option<StageReport> {
        loop {
            {
                let status = self.status.borrow_and_update();
                if let Some(report) = status.stages.get(self.seen) {
                    self.seen += 1;
                    return Some(report.clone());
                }
                if !matches!(status.vm, VmState::Starting { .. }) {
                    return None;
                }
            }
            self.status.changed().await.ok()?;
        }
    }

    /// Waits for the end of the start.
    pub async fn finish(mut self) -> Result<VmStatus, Failure> {
        while self.next().await.is_some() {}
        let status = self.status.borrow().clone();
        match status.vm {
            VmState::Failed { cause } | VmState::Restarting { cause, .. } => Err(cause),
            _ => Ok(status),
        }
    }
}
