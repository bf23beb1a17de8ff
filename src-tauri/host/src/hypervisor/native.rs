//! No VM: `guest-agent serve` runs straight on this Linux machine.
//!
//! No wall stands between engine and host, so there is no fabric: containers use the host's network, and the
//! engine's own unix socket knows half-close.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use super::child::{Child, Program};
use super::{BoxFuture, BoxStream, Exit, Hypervisor, Incoming, Vm, VmSpec};
use crate::model::{Failure, FailureKind, HypervisorKind};
use crate::settings::Settings;

/// Starts the engine on this machine.
pub struct Native {
    agent: Option<PathBuf>,
    setpriv: Option<PathBuf>,
    data_root: PathBuf,
}

impl Native {
    /// The guest agent that the settings name.
    pub fn new(settings: &Settings) -> Native {
        Native {
            agent: settings.guest_agent(),
            setpriv: settings.find_program("setpriv"),
            data_root: settings.paths.data().join("native"),
        }
    }

    fn program(&self) -> Result<PathBuf, Failure> {
        let missing = "the guest agent is not built: run `make guest-agent`";
        self.agent.clone().ok_or_else(|| Failure::new(FailureKind::MissingDependency, missing))
    }

    async fn launch(&self, spec: VmSpec) -> Result<Arc<dyn Vm>, Failure> {
        let file = self.program()?;
        let socket = spec.run_dir.join("engine.sock");
        super::check_socket_path(&socket)?;
        let system = |error| Failure::system(format!("cannot make `{}`", spec.run_dir.display()), error);
        std::fs::create_dir_all(&spec.run_dir).map_err(system)?;
        let _ = std::fs::remove_file(&socket);
        let mut host = std::ffi::OsString::from("unix://");
        host.push(&socket);
        let arguments = vec![
            "serve".into(),
            "--data-root".into(),
            self.data_root.clone().into(),
            "--exec-root".into(),
            spec.run_dir.join("engine").into(),
            "--host".into(),
            host,
        ];
        let setpriv = self.setpriv.clone();
        let program = Program {
            file: file.clone(),
            arguments,
            output: spec.console.clone(),
            setpriv,
            death_signal: "TERM",
        };
        let agent = Child::spawn(program).await.map_err(|error| {
            Failure::new(FailureKind::BootFailed, format!("`{}` did not start: {error}", file.display()))
        })?;
        let (report, exited) = watch::channel(None);
        let waiting = agent.clone();
        tokio::spawn(async move {
            let status = waiting.wait().await;
            let exit = if status.success() {
                Exit::PoweredOff
            } else {
                Exit::Crashed(format!("the engine ended with {status}"))
            };
            report.send_replace(Some(exit));
        });
        Ok(Arc::new(Engine { socket, agent, exited }))
    }
}

impl Hypervisor for Native {
    fn kind(&self) -> HypervisorKind {
        HypervisorKind::Native
    }

    fn accelerator(&self) -> Option<String> {
        None
    }

    fn needs_image(&self) -> bool {
        false
    }

    fn check(&self) -> Result<(), Failure> {
        if !rustix::process::geteuid().is_root() {
            let message = "without a VM the engine needs root: use `sudo`, or the VM";
            return Err(Failure::new(FailureKind::MissingDependency, message));
        }
        self.program().map(drop)
    }

    fn start(&self, spec: VmSpec) -> BoxFuture<'_, Result<Arc<dyn Vm>, Failure>> {
        Box::pin(self.launch(spec))
    }
}

/// The engine that runs on this machine.
struct Engine {
    socket: PathBuf,
    agent: Child,
    exited: watch::Receiver<Option<Exit>>,
}

impl Vm for Engine {
    fn connect(&self, _port: u32) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async { Err(io::Error::from(io::ErrorKind::Unsupported)) })
    }

    fn listen(&self, _port: u32) -> BoxFuture<'_, io::Result<Incoming>> {
        // Nobody will connect: the sender is gone.
        Box::pin(async { Ok(mpsc::channel(1).1) })
    }

    fn connect_api(&self) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async { Ok(Box::new(UnixStream::connect(&self.socket).await?) as BoxStream) })
    }

    fn has_wall(&self) -> bool {
        false
    }

    fn power_button(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { self.agent.signal(Signal::TERM) })
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let _ = self.agent.signal(Signal::KILL);
            self.agent.wait().await;
        })
    }

    fn exited(&self) -> watch::Receiver<Option<Exit>> {
        self.exited.clone()
    }
}
