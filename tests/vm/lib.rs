//! The VM under QEMU, as users start it: by the `sampan` command and the real `docker` command.
//!
//! A boot takes seconds under software emulation, so a test here tells a longer story than elsewhere.
#![cfg(test)]

mod arm64;
mod boot;
mod main_job;
mod networks;
mod power;

use std::sync::Arc;

use harness::{Registry, Sandbox, Vm, fixtures};

/// What these tests need of the machine.
fn available() -> Result<(), String> {
    Vm::available()?;
    Registry::available()?;
    fixtures::busybox_available()
}

/// A VM with busybox loaded.
fn vm_with_busybox() -> Vm {
    let vm = Vm::start();
    vm.load(&fixtures::busybox());
    vm
}

/// A host's loopback with a registry on it.
fn host_with_registry() -> (Arc<Sandbox>, Registry) {
    let sandbox = Arc::new(Sandbox::new());
    let registry = Registry::start(&sandbox);
    (sandbox, registry)
}
