//! What the host says unasked, passed on to the menu bar item and, while it is seen, to the window.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use host::Sampan;
use host::model::{VmState, VmStatus};
use tauri::{AppHandle, Emitter as _, Manager as _};
use tokio::sync::watch;

use crate::shell::Shell;
use crate::tray;

/// Pause before the engine's events are asked for again after their stream broke.
const RECONNECT: Duration = Duration::from_millis(500);

/// Opens the host, starts the VM when the user wants that, and follows both kinds of news as long as the app lives.
pub(crate) fn spawn(app: AppHandle, start_at_launch: bool) {
    tauri::async_runtime::spawn(async move {
        let shell = app.state::<Arc<Shell>>().inner().clone();
        if let Err(failure) = shell.sampan().await {
            // The window asks for the status itself, is told the same, and offers another try.
            tracing::error!("{failure}");
        }
        shell.ready().await;
        let Some(sampan) = shell.opened() else { return };
        tauri::async_runtime::spawn(follow_status(app.clone(), shell.clone(), sampan.watch()));
        tauri::async_runtime::spawn(follow_events(app, shell, sampan.clone()));
        if start_at_launch && let Err(failure) = sampan.start().await {
            tracing::error!("{failure}");
        }
    });
}

async fn follow_status(app: AppHandle, shell: Arc<Shell>, mut status: watch::Receiver<VmStatus>) {
    let mut seen = shell.seen().subscribe();
    let mut language = shell.language().subscribe();
    let mut shown = None;
    loop {
        let now = status.borrow_and_update().clone();
        let item = (*language.borrow_and_update(), std::mem::discriminant(&now.vm));
        // A menu that is made anew closes under the user's pointer: only when it would say something else.
        if shown.replace(item) != Some(item) {
            tray::update(&app, item.0, Some(&now.vm));
        }
        if *seen.borrow_and_update() {
            emit(&app, "vm-status", &now);
        }
        let alive = tokio::select! {
            changed = status.changed() => changed.is_ok(),
            changed = seen.changed() => changed.is_ok(),
            changed = language.changed() => changed.is_ok(),
        };
        if !alive {
            return;
        }
    }
}

/// One subscription to the engine's events while it runs and somebody looks; none otherwise.
async fn follow_events(app: AppHandle, shell: Arc<Shell>, sampan: Sampan) {
    let mut status = sampan.watch();
    let mut seen = shell.seen().subscribe();
    loop {
        let running = status.wait_for(|status| matches!(status.vm, VmState::Running)).await.is_ok();
        if !running || seen.wait_for(|seen| *seen).await.is_err() {
            return;
        }
        tokio::select! {
            () = pass_events_on(&app, &sampan) => {}
            _ = seen.wait_for(|seen| !*seen) => continue,
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn pass_events_on(app: &AppHandle, sampan: &Sampan) {
    match sampan.docker().events().await {
        Ok(mut events) => {
            emit(app, "engine-connected", &());
            while let Some(Ok(event)) = events.next().await {
                emit(app, "engine-event", &event);
            }
        }
        Err(error) => tracing::debug!("no events from the engine: {error}"),
    }
}

fn emit<T: serde::Serialize>(app: &AppHandle, name: &str, payload: &T) {
    if let Err(error) = app.emit(name, payload) {
        tracing::warn!("the window was not told of `{name}`: {error}");
    }
}
