//! Tells at once when the kernel kills a process of a container for want of memory.

use std::sync::Arc;

use tokio::io::Interest;
use tokio::task::JoinHandle;

use super::container::{Command, Container};
use crate::engine::Engine;

/// Watches the memory of one run; dropping it ends that. It sleeps until the kernel has something to say.
#[derive(Debug)]
pub(crate) struct Watch(JoinHandle<()>);

impl Watch {
    /// Begins to watch; none where the kernel does not count memory.
    pub(crate) fn start(engine: &Engine, container: &Arc<Container>, run: u64) -> Option<Watch> {
        let cgroup = engine.inner().runtime.cgroup(&container.id);
        let events = cgroup.memory_events().ok()?;
        let known = cgroup.oom_kills().ok()?;
        let events = crate::logs::register(events, Interest::PRIORITY)
            .inspect_err(|error| tracing::debug!("memory.events can't be waited for: {error}"))
            .ok()?;
        let container = container.clone();
        Some(Watch(tokio::spawn(async move {
            let mut known = known;
            loop {
                // Reading is what makes the kernel wake the next wait.
                let mut text = [0; 512];
                if rustix::io::pread(events.get_ref(), &mut text, 0).is_err() {
                    return;
                }
                let Ok(kills) = cgroup.oom_kills() else { return };
                if kills > known {
                    known = kills;
                    if container.commands.send(Command::OutOfMemory { run }).await.is_err() {
                        return;
                    }
                }
                match events.ready(Interest::PRIORITY).await {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(_) => return,
                }
            }
        })))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}
