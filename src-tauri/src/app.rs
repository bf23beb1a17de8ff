//! Builds the app: state, window, tray, commands, and an end that leaves nothing running.

use std::sync::Arc;

use anyhow::Context as _;
use host::settings::{Environment, Settings};
use tauri::{AppHandle, Manager as _, RunEvent};
use tokio::signal::unix::{SignalKind, signal};

use crate::shell::Shell;
use crate::{commands, news, tray, window};

/// Runs the app until the user quits.
pub(crate) fn run() -> anyhow::Result<()> {
    let settings = Settings::load(&Environment::read()).context("the settings cannot be used")?;
    let start_at_launch = settings.preferences.start_at_launch;
    let context = context();
    let app = tauri::Builder::default()
        .manage(Arc::new(Shell::new(settings)))
        .invoke_handler(commands::handler())
        .setup(move |app| {
            window::open(app.handle())?;
            if let Err(error) = tray::build(app.handle()) {
                tracing::warn!("no menu bar item: {error}");
            }
            news::spawn(app.handle().clone(), start_at_launch);
            tauri::async_runtime::spawn(end_on_signal(app.handle().clone()));
            Ok(())
        })
        .on_window_event(window::on_event)
        .build(context)
        .context("the window cannot be made")?;
    app.run(on_run_event);
    Ok(())
}

/// The configuration and the front end, embedded.
#[expect(clippy::disallowed_methods, reason = "the macro's expansion names `exit`; none of ours does")]
fn context() -> tauri::Context {
    tauri::generate_context!()
}

fn on_run_event(app: &AppHandle, event: RunEvent) {
    match event {
        // The engine ends before the app does. A second request, the one made by `end`, has a code.
        RunEvent::ExitRequested { api, code: None, .. } => {
            api.prevent_exit();
            tauri::async_runtime::spawn(end(app.clone()));
        }
        // A Mac's own ways to quit (⌘Q, the Dock, the end of the session) ask nobody and come straight here.
        RunEvent::Exit => tauri::async_runtime::block_on(close(app)),
        #[cfg(target_os = "macos")]
        RunEvent::Reopen { .. } => window::show(app),
        _ => {}
    }
}

/// Stops the VM when this process owns it, then ends the app.
pub(crate) async fn end(app: AppHandle) {
    window::hide(&app);
    close(&app).await;
    app.exit(0);
}

/// Stops the VM when this process owns it. Once that is done, doing it again does nothing.
async fn close(app: &AppHandle) {
    let shell = app.state::<Arc<Shell>>().inner().clone();
    if let Some(sampan) = shell.opened()
        && let Err(failure) = sampan.close().await
    {
        tracing::error!("the engine did not stop cleanly: {failure}");
    }
}

/// A signal (Ctrl-C in the terminal that the app was opened from, the end of a session) ends the app as the menu does.
async fn end_on_signal(app: AppHandle) {
    let signals =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else { return };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = hangup.recv() => {}
    }
    end(app).await;
}
