//! Native.

use std::sync::Arc;

use super::{BoxFuture, Hypervisor, Vm, VmSpec};
use crate::model::{Failure, FailureKind, HypervisorKind};
use crate::settings::Settings;

/// Native.
pub struct Native;

impl Native {
    /// As the settings say.
    pub fn new(_settings: &Settings) -> Native {
        Native
    }
}

impl Hypervisor for Native {
    fn kind(&self) -> HypervisorKind {
        HypervisorKind::Native
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
