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

#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod kvm;
#[cfg(target_os = "linux")]
pub mod native;
#[cfg(target_os = "linux")]
pub mod qemu;
#[cfg(target_os = "linux")]
mod qmp;

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
    fn accelerator(&self) -> Option<String> {
        None
    }

    /// Whether it needs kernel, initramfs and data disk.
    fn needs_image(&self) -> bool {
        true
    }

    /// The guest's name of the console that is written to [`VmSpec::console`].
    fn console_device(&self) -> &'static str {
        "hvc0"
    }

    /// Checks what can be checked without starting: programs, rights.
    fn check(&self) -> Result<(), Failure>;

    /// Powers a machine on. Returns once it exists; it hasn't booted by then.
    fn start(&self, spec: VmSpec) -> BoxFuture<'_, Result<Arc<dyn Vm>, Failure>>;
}

/// A machine that was powered on.
pub trait Vm: Send + Sync {
    /// Opens a vsock stream to a port of the guest. The stream knows no half-close: frame it. Where no wall stands
    /// there are no ports.
    fn connect(&self, _port: u32) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    /// Waits until connections to the guest may be tried. Whether somebody listens there is another question.
    fn reachable(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Takes connections that the guest opens to `port` of the host. Where no wall stands nobody opens any.
    fn listen(&self, _port: u32) -> BoxFuture<'_, io::Result<Incoming>> {
        Box::pin(async { Ok(mpsc::channel(1).1) })
    }

    /// Opens a stream to the engine's API, with half-close in both directions.
    fn connect_api(&self) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = self.connect(protocol::ports::DOCKER_API).await?;
            Ok(Box::new(protocol::FramedStream::new(stream)) as BoxStream)
        })
    }

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

/// The hypervisor that the settings ask for, of those that this crate has: QEMU and none, on Linux. Apple's is in `vz`.
pub fn from_settings(settings: &crate::settings::Settings) -> Result<Arc<dyn Hypervisor>, Failure> {
    match settings.hypervisor() {
        #[cfg(target_os = "linux")]
        HypervisorKind::Qemu => Ok(Arc::new(qemu::Qemu::new(settings))),
        #[cfg(target_os = "linux")]
        HypervisorKind::Native => Ok(Arc::new(native::Native::new(settings))),
        other => {
            let message = format!("the hypervisor `{}` does not exist on this system", name(other));
            Err(Failure::new(crate::model::FailureKind::MissingDependency, message))
        }
    }
}

/// What a failure calls the thing that was started.
pub(crate) fn noun(has_wall: bool) -> &'static str {
    if has_wall { "VM" } else { "engine" }
}

fn name(kind: HypervisorKind) -> &'static str {
    match kind {
        HypervisorKind::Apple => "apple",
        HypervisorKind::Qemu => "qemu",
        HypervisorKind::Native => "native",
    }
}

/// The kernel gives a unix socket's path 108 bytes (104 on macOS), with the NUL at its end.
pub fn check_socket_path(path: &std::path::Path) -> Result<(), Failure> {
    const ROOM: usize = if cfg!(target_os = "macos") { 103 } else { 107 };
    let length = path.as_os_str().len();
    if length <= ROOM {
        return Ok(());
    }
    let message = format!(
        "`{}` has {length} bytes, and the path of a socket may have {ROOM}: set SAMPAN_HOME to a shorter directory",
        path.display()
    );
    Err(Failure::new(crate::model::FailureKind::System, message))
}
