//! What all commands share: the opened host, who is looking, and the streams under way.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use host::Sampan;
use host::hypervisor::Hypervisor;
use host::model::Failure;
use host::settings::Settings;
use tokio::sync::{Notify, OnceCell, oneshot, watch};

use crate::messages::Language;

/// The shell's state. One per process.
pub(crate) struct Shell {
    settings: Settings,
    sampan: OnceCell<Sampan>,
    /// Told once, when the host was opened.
    ready: Notify,
    /// Whether the window is on screen: nobody works for a hidden one.
    seen: watch::Sender<bool>,
    language: watch::Sender<Language>,
    streams: Mutex<HashMap<u32, oneshot::Sender<()>>>,
}

impl Shell {
    pub(crate) fn new(settings: Settings) -> Shell {
        Shell {
            settings,
            sampan: OnceCell::new(),
            ready: Notify::new(),
            seen: watch::Sender::new(false),
            language: watch::Sender::new(Language::English),
            streams: Mutex::default(),
        }
    }

    /// The host, opened at the first call; a failure is told, and the next call tries again.
    pub(crate) async fn sampan(&self) -> Result<&Sampan, Failure> {
        self.sampan
            .get_or_try_init(|| async {
                let hypervisor = hypervisor(&self.settings)?;
                let sampan = Sampan::open(self.settings.clone(), hypervisor).await?;
                self.ready.notify_one();
                Ok(sampan)
            })
            .await
    }

    /// Waits until somebody has opened the host; for one waiter.
    pub(crate) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// The host if it was opened.
    pub(crate) fn opened(&self) -> Option<Sampan> {
        self.sampan.get().cloned()
    }

    /// The hello image beside the VM image, where there is one.
    pub(crate) fn hello_archive(&self) -> Option<PathBuf> {
        self.settings.image_dir.as_ref().map(|dir| dir.join("hello.tar")).filter(|file| file.is_file())
    }

    pub(crate) fn seen(&self) -> &watch::Sender<bool> {
        &self.seen
    }

    pub(crate) fn language(&self) -> &watch::Sender<Language> {
        &self.language
    }

    /// Runs one of the window's streams under the number that the window gave it, until its end or [`Shell::cancel`].
    pub(crate) async fn stream<E>(
        &self,
        stream: u32,
        work: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        let (cancel, cancelled) = oneshot::channel();
        self.streams().insert(stream, cancel);
        let result = tokio::select! {
            result = work => result,
            _ = cancelled => Ok(()),
        };
        self.streams().remove(&stream);
        result
    }

    /// Ends a stream; one that has ended already is no error.
    pub(crate) fn cancel(&self, stream: u32) {
        self.streams().remove(&stream);
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, HashMap<u32, oneshot::Sender<()>>> {
        // Nothing can panic while it is held, so a poisoned map is still a whole one.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one place where the app says which hypervisor it has.
fn hypervisor(settings: &Settings) -> Result<Arc<dyn Hypervisor>, Failure> {
    #[cfg(target_os = "macos")]
    if settings.hypervisor() == host::model::HypervisorKind::Apple {
        return Ok(Arc::new(vz::Apple::new()));
    }
    host::hypervisor::from_settings(settings)
}
