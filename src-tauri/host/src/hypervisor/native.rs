//! No VM: `guest-agent serve` runs straight on this Linux machine.
//!
//! No wall stands between engine and host, so there is no fabric: containers use the host's network, and the
//! engine's own unix socket knows half-close.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::child::{Child, Program};
use super::{BoxFuture, BoxStream, Exit, Hypervisor, Vm, VmSpec};
use crate::model::{Failure, FailureKind, HypervisorKind};
use crate::settings::{Settings, is_executable};

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
        let missing = match &self.agent {
            Some(agent) if is_executable(agent) => return Ok(agent.clone()),
            Some(agent) => {
                format!(
                    "the guest agent `{}` is not there, or is no program: run `make guest-agent`",
                    agent.display()
                )
            }
            None => "the guest agent is not built: run `make guest-agent`".to_owned(),
        };
        Err(Failure::new(FailureKind::MissingDependency, missing))
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

    fn check(&self) -> Result<(), Failure> {
        if !rustix::process::geteuid().is_root() {
            let message = "without a VM the engine needs root: use `sudo`, or the VM";
            return Err(Failure::new(FailureKind::MissingDependency, message));
        }
        self.program().map(drop)
    }

    fn needs_image(&self) -> bool {
        false
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_not_there_is_named_with_the_remedy() {
        let home = tempfile::tempdir().unwrap();
        let said = |agent: Option<PathBuf>| {
            let native = Native { agent, setpriv: None, data_root: home.path().to_owned() };
            native.program().unwrap_err()
        };
        let absent = home.path().join("guest-agent");
        let failure = said(Some(absent.clone()));
        assert_eq!(failure.kind, FailureKind::MissingDependency);
        assert!(failure.message.contains(&format!("`{}` is not there", absent.display())), "{failure}");
        assert!(failure.message.contains("make guest-agent"), "{failure}");
        std::fs::write(&absent, "no program").unwrap();
        assert!(said(Some(absent)).message.contains("is no program"));
        assert!(said(None).message.contains("is not built"));
    }
}
