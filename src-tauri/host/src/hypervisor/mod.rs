//! The door to a virtual machine: three implementations, one shape.
//!
//! ```text
//!   Hypervisor ──start(VmSpec)──▶ Vm ──connect(port)──▶ bytes      apple (crate `vz`), qemu, native
//!                                  ├──listen(port)────▶ incoming
//!                                  ├──power_button / kill
//!                                  └──exited (watch)
//! ```
//!
//! Everything above this trait is the same code for all three. A [`Vm`] exists only while there is (or was) a
//! machine, so there is no state in which a call makes no sense but "it has ended already".

pub mod native;
pub mod qemu;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

use crate::model::{Failure, HypervisorKind};

/// A boxed future that may be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A boxed [`Stream`].
pub type BoxStream = Box<dyn Stream>;

/// Connections that the guest opens to one port of the host. Dropping it closes the port.
pub type Incoming = mpsc::Receiver<BoxStream>;

/// What a virtual machine is made of.
#[derive(Debug, Clone)]
pub struct VmSpec {
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// An uncompressed kernel, as each loader wants it: `vmlinux` (PVH) or `Image`.
    pub kernel: PathBuf,
    /// The initramfs whose `/init` is the guest agent.
    pub initramfs: PathBuf,
    /// The kernel's command line.
    pub command_line: String,
    /// The data disk: a sparse raw file.
    pub data_disk: PathBuf,
    /// The guest's console is appended to this file.
    pub console: PathBuf,
    /// A directory for sockets that live as long as the machine.
    pub run_dir: PathBuf,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The guest powered off, or was told to.
    PoweredOff,
    /// It ended by itself; the text says what is known.
    Crashed(String),
}

/// Something that can start virtual machines.
pub trait Hypervisor: Send + Sync {
    /// Which one it is.
    fn kind(&self) -> HypervisorKind;

    /// What will execute the guest's instructions (`kvm`, `tcg`, `apple`); none without a VM.
    fn accelerator(&self) -> Option<String>;

    /// Whether it needs kernel, initramfs and data disk.
    fn needs_image(&self) -> bool {
        true
    }

    /// Checks what can be checked without starting: programs, rights.
    fn check(&self) -> Result<(), Failure>;

    /// Powers a machine on. Returns once it exists; it hasn't booted by then.
    fn start(&self, spec: VmSpec) -> BoxFuture<'_, Result<Arc<dyn Vm>, Failure>>;
}

/// A machine that was powered on.
pub trait Vm: Send + Sync {
    /// Opens a vsock stream to a port of the guest. The stream knows no half-close: frame it.
    fn connect(&self, port: u32) -> BoxFuture<'_, io::Result<BoxStream>>;

    /// Takes connections that the guest opens to `port` of the host.
    fn listen(&self, port: u32) -> BoxFuture<'_, io::Result<Incoming>>;

    /// Opens a stream to the engine's API, with half-close in both directions.
    fn connect_api(&self) -> BoxFuture<'_, io::Result<BoxStream>>;

    /// Whether a wall stands between guest and host, so that the fabric has to carry what crosses it.
    fn has_wall(&self) -> bool {
        true
    }

    /// Presses the power button: the guest is asked to shut down.
    fn power_button(&self) -> BoxFuture<'_, io::Result<()>>;

    /// Ends the machine at once and waits for its end.
    fn kill(&self) -> BoxFuture<'_, ()>;

    /// `Some` once the machine has ended.
    fn exited(&self) -> watch::Receiver<Option<Exit>>;
}

/// The hypervisor that the settings ask for, of those that this crate has; `None` for Apple's, which is in `vz`.
pub fn from_settings(settings: &crate::settings::Settings) -> Option<Arc<dyn Hypervisor>> {
    match settings.hypervisor() {
        HypervisorKind::Apple => None,
        HypervisorKind::Qemu => Some(Arc::new(qemu::Qemu::new(settings))),
        HypervisorKind::Native => Some(Arc::new(native::Native::new(settings))),
    }
}
