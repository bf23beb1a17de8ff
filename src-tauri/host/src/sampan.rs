//! The facade: what the window and the command do with the VM.
//!
//! ```text
//!            lock free                              owner gone, lock free
//!   open ───────────────▶ Owner (runs the VM)   ◀───────────────────────── Follower
//!     └──── lock held ──▶ Follower (asks the owner over its control socket)
//! ```
//!
//! One process owns the VM: whoever opened Sampan first. Another one that opens it follows the owner, with the
//! same calls, and takes over once the owner is gone.

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::control::{self, Client, Request};
use crate::docker;
use crate::hypervisor::Hypervisor;
use crate::model::{Failure, FailureKind, StageReport, VmState, VmStatus};
use crate::settings::Settings;
use crate::vm::boot::{Plan, last_lines};
use crate::vm::machine::{self, Machine};

/// An owner that ends lets its lock go a moment after its socket; between two looks.
const OWNER_PAUSE: Duration = Duration::from_millis(50);

/// The VM and all around it. Cheap to clone.
#[derive(Clone)]
pub struct Sampan {
    inner: Arc<Inner>,
}

struct Inner {
    plan: Plan,
    status: watch::Sender<VmStatus>,
    ownership: Mutex<Option<Ownership>>,
    follower: Mutex<Option<JoinHandle<()>>>,
}

/// What only the owner has. The lock is the file's: it goes with it.
struct Ownership {
    machine: Machine,
    control: control::Server,
    lock: File,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Ok(mut follower) = self.follower.lock()
            && let Some(task) = follower.take()
        {
            task.abort();
        }
    }
}

/// A start under way.
#[derive(Debug, Clone)]
pub struct Boot {
    status: watch::Receiver<VmStatus>,
    seen: usize,
}

impl Sampan {
    /// Takes ownership of the VM, or follows the process that has it. Starts nothing. Must be called within a
    /// tokio runtime.
    pub async fn open(settings: Settings, hypervisor: Arc<dyn Hypervisor>) -> Result<Sampan, Failure> {
        let run = settings.paths.run();
        std::fs::create_dir_all(&run)
            .map_err(|error| Failure::system(format!("cannot make `{}`", run.display()), error))?;
        let plan = Plan { settings: Arc::new(settings), hypervisor };
        let status = watch::Sender::new(machine::initial_status(&plan));
        let inner = Inner { plan, status, ownership: Mutex::new(None), follower: Mutex::new(None) };
        let sampan = Sampan { inner: Arc::new(inner) };
        if !sampan.inner.take_ownership().await? {
            let task = tokio::spawn(follow(Arc::downgrade(&sampan.inner)));
            if let Ok(mut follower) = sampan.inner.follower.lock() {
                *follower = Some(task);
            }
        }
        Ok(sampan)
    }

    /// The settings that it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.inner.plan.settings
    }

    /// Whether this process runs the VM; otherwise another one does, and this one follows it.
    pub fn is_owner(&self) -> bool {
        self.inner.machine().is_some()
    }

    /// Powers the VM on; returns at once. A VM that is running or starting is left alone.
    pub async fn start(&self) -> Result<Boot, Failure> {
        let mut status = self.inner.status.subscribe();
        let revision = match self.inner.machine() {
            Some(machine) => machine.start().await?,
            None => {
                let client =
                    Client::ask(&self.inner.plan.settings.paths.control_socket(), Request::Start).await?;
                client.ok_or_else(no_owner)?.started().await?
            }
        };
        // A follower's status comes on a connection of its own, a moment later than the answer.
        let _ = status.wait_for(|status| status.revision >= revision).await;
        Ok(Boot { status, seen: 0 })
    }

    /// Shuts the VM down and waits for its end. A VM that is stopped is left alone.
    pub async fn stop(&self) -> Result<(), Failure> {
        match self.inner.machine() {
            Some(machine) => machine.stop().await,
            None => {
                let client =
                    Client::ask(&self.inner.plan.settings.paths.control_socket(), Request::Stop).await?;
                client.ok_or_else(no_owner)?.stopped().await
            }
        }
    }

    /// All that is known now.
    pub fn status(&self) -> VmStatus {
        self.inner.status.borrow().clone()
    }

    /// Each change of the status.
    pub fn watch(&self) -> watch::Receiver<VmStatus> {
        self.inner.status.subscribe()
    }

    /// The last `lines` lines of the VM's console.
    pub async fn console(&self, lines: usize) -> Result<String, Failure> {
        let path = self.settings().paths.console();
        match tokio::fs::read(&path).await {
            Ok(bytes) => Ok(last_lines(&String::from_utf8_lossy(&bytes), lines)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(Failure::system(format!("cannot read `{}`", path.display()), error)),
        }
    }

    /// A client of the engine.
    pub fn docker(&self) -> docker::Client {
        docker::Client::unix(self.settings().paths.docker_socket())
    }

    /// Stops the VM if this process owns it, and gives the ownership up. To be awaited before the process ends.
    pub async fn close(self) -> Result<(), Failure> {
        let ownership = self.inner.ownership.lock().ok().and_then(|mut ownership| ownership.take());
        let Some(Ownership { machine, control, lock }) = ownership else { return Ok(()) };
        // A failure stays the last word for those who follow.
        let runs = !matches!(self.status().vm, VmState::Stopped | VmState::Failed { .. });
        let stopped = if runs { machine.stop().await } else { Ok(()) };
        control.close().await;
        drop(lock);
        stopped
    }
}

/// Asks the process that owns the VM of these settings to stop it, and waits until that process is done with it:
/// gone, if it lives for the VM alone. Returns whether there was one.
pub async fn stop_owner(settings: &Settings) -> Result<bool, Failure> {
    /// A process that lives for the VM ends at once after it. The app stays.
    const ENDS_WITHIN: Duration = Duration::from_millis(300);
    let Some(mut client) = Client::ask(&settings.paths.control_socket(), Request::Stop).await? else {
        return Ok(false);
    };
    client.stopped().await?;
    let _ = tokio::time::timeout(ENDS_WITHIN, client.closed()).await;
    Ok(true)
}

/// The status as the owner tells it; none when there is no owner.
pub async fn owner_status(settings: &Settings) -> Result<Option<VmStatus>, Failure> {
    match Client::ask(&settings.paths.control_socket(), Request::Watch).await? {
        Some(mut client) => Ok(client.status().await),
        None => Ok(None),
    }
}

/// The status where no process owns the VM.
pub fn stopped_status(settings: Settings, hypervisor: Arc<dyn Hypervisor>) -> VmStatus {
    machine::initial_status(&Plan { settings: Arc::new(settings), hypervisor })
}

fn no_owner() -> Failure {
    Failure::new(FailureKind::Busy, "the process that owned the VM has just ended: try again")
}

impl Inner {
    fn machine(&self) -> Option<Machine> {
        self.ownership.lock().ok()?.as_ref().map(|ownership| ownership.machine.clone())
    }

    /// Becomes the owner if nobody is.
    async fn take_ownership(&self) -> Result<bool, Failure> {
        let path = self.plan.settings.paths.owner_lock();
        let lock = File::options().write(true).create(true).truncate(false).open(&path);
        let lock =
            lock.map_err(|error| Failure::system(format!("cannot open `{}`", path.display()), error))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        let machine = Machine::spawn(self.plan.clone(), self.status.clone());
        let socket = self.plan.settings.paths.control_socket();
        let control = control::Server::open(&socket, machine.clone(), self.status.subscribe()).await?;
        if let Ok(mut ownership) = self.ownership.lock() {
            *ownership = Some(Ownership { machine, control, lock });
        }
        Ok(true)
    }
}

/// Repeats what the owner says, and takes over when it is gone.
async fn follow(inner: std::sync::Weak<Inner>) {
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let socket = strong.plan.settings.paths.control_socket();
        let status = strong.status.clone();
        match strong.take_ownership().await {
            Ok(true) => return,
            Ok(false) => {}
            Err(failure) => tracing::warn!(%failure, "cannot take the VM over"),
        }
        drop(strong);
        if let Ok(Some(mut client)) = Client::ask(&socket, Request::Watch).await {
            while let Some(now) = client.status().await {
                status.send_replace(now);
            }
            status.send_modify(|status| status.vm = VmState::Stopped);
        }
        tokio::time::sleep(OWNER_PAUSE).await;
    }
}

impl Boot {
    /// The next stage that is done; none when the start has ended, well or not.
    pub async fn next(&mut self) -> Option<StageReport> {
        loop {
            {
                let status = self.status.borrow_and_update();
                // A second try begins with the first stage again.
                self.seen = self.seen.min(status.stages.len());
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
            VmState::Stopped | VmState::Stopping => {
                Err(Failure::new(FailureKind::BootFailed, "the start was broken off by a stop"))
            }
            _ => Ok(status),
        }
    }
}
