//! The one window. Closing it hides it where a menu bar item can bring it back.

use std::sync::Arc;

use tauri::{AppHandle, Manager as _, Window, WindowEvent};
use tauri::{WebviewUrl, WebviewWindowBuilder};

use crate::shell::Shell;

const LABEL: &str = "main";

/// Makes the window and shows it.
pub(crate) fn open(app: &AppHandle) -> tauri::Result<()> {
    let builder = WebviewWindowBuilder::new(app, LABEL, WebviewUrl::default())
        .title("Sampan")
        .inner_size(1180.0, 760.0)
        .min_inner_size(720.0, 480.0);
    #[cfg(target_os = "macos")]
    let builder = builder.title_bar_style(tauri::TitleBarStyle::Overlay).hidden_title(true);
    builder.build()?;
    seen(app, true);
    Ok(())
}

/// Brings the window to the front.
pub(crate) fn show(app: &AppHandle) {
    if let Some(window) = app.get_webview_window(LABEL) {
        // Nothing to do about a window system that refuses; the next click asks again.
        let _ = window.show();
        let _ = window.unminimize();
        let _ = window.set_focus();
        seen(app, true);
    }
}

/// Takes the window from the screen; its contents stay.
pub(crate) fn hide(app: &AppHandle) {
    if let Some(window) = app.get_webview_window(LABEL) {
        let _ = window.hide();
        seen(app, false);
    }
}

/// A close button hides the window on a Mac, where the menu bar item always is; elsewhere it quits.
pub(crate) fn on_event(window: &Window, event: &WindowEvent) {
    if let WindowEvent::CloseRequested { api, .. } = event {
        api.prevent_close();
        let app = window.app_handle();
        if cfg!(target_os = "macos") {
            hide(app);
        } else {
            tauri::async_runtime::spawn(crate::app::end(app.clone()));
        }
    }
}

fn seen(app: &AppHandle, seen: bool) {
    app.state::<Arc<Shell>>().seen().send_replace(seen);
}
