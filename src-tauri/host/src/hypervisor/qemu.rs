//! Qemu.

use std::sync::Arc;

use super::{BoxFuture, Hypervisor, Vm, VmSpec};
use crate::model::{Failure, FailureKind, HypervisorKind};
use crate::settings::Settings;

/// Qemu.
pub struct Qemu;

impl Qemu {
    /// As the settings say.
    pub fn new(_settings: &Settings) -> Qemu {
        Qemu
    }
}

impl Hypervisor for Qemu {
    fn kind(&self) -> HypervisorKind {
        HypervisorKind::Qemu
    }

    fn accelerator(&self) -> Option<String> {
        None
    }

    fn check(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn start(&self, _spec: VmSpec) -> BoxFuture<'_, Result<Arc<dyn Vm>, Failure>> {
        Box::pin(async { Err(Failure::new(FailureKind::System, "not built yet")) })
    }
}
