//! The menu bar item: the engine's state, start and stop, the window, the end.

use std::sync::Arc;

use host::model::VmState;
use tauri::image::Image;
use tauri::menu::{Menu, MenuEvent, MenuItem, PredefinedMenuItem};
use tauri::tray::{TrayIcon, TrayIconBuilder};
use tauri::{AppHandle, Manager as _, Wry};

use crate::messages::Language;
use crate::shell::Shell;
use crate::{app, window};

const ID: &str = "sampan";
const OPEN: &str = "open";
const START: &str = "start";
const STOP: &str = "stop";
const QUIT: &str = "quit";

/// Puts the item in the menu bar.
pub(crate) fn build(app: &AppHandle) -> tauri::Result<()> {
    if !available() {
        tracing::info!("no menu bar item: this desktop has no indicator library");
        return Ok(());
    }
    TrayIconBuilder::with_id(ID)
        .icon(Image::from_bytes(include_bytes!("../icons/tray.png"))?)
        .icon_as_template(true)
        .tooltip("Sampan")
        .menu(&menu(app, Language::English, None)?)
        .on_menu_event(chosen)
        .build(app)?;
    Ok(())
}

/// Shows the engine's state in the menu.
pub(crate) fn update(app: &AppHandle, language: Language, vm: Option<&VmState>) {
    let shown = app.tray_by_id(ID).map(|tray: TrayIcon<Wry>| {
        tray.set_menu(Some(menu(app, language, vm)?))?;
        tray.set_tooltip(Some(format!("Sampan: {}", language.state(vm))))
    });
    if let Some(Err(error)) = shown {
        tracing::warn!("the menu bar item was not changed: {error}");
    }
}

fn menu(app: &AppHandle, language: Language, vm: Option<&VmState>) -> tauri::Result<Menu<Wry>> {
    let words = language.words();
    let item = |id, text, enabled| MenuItem::with_id(app, id, text, enabled, None::<&str>);
    let can_start = matches!(vm, Some(VmState::Stopped | VmState::Failed { .. }));
    let can_stop =
        matches!(vm, Some(VmState::Running | VmState::Starting { .. } | VmState::Restarting { .. }));
    Menu::with_items(
        app,
        &[
            &item("state", language.state(vm), false)?,
            &item(START, words.start, can_start)?,
            &item(STOP, words.stop, can_stop)?,
            &PredefinedMenuItem::separator(app)?,
            &item(OPEN, words.open, true)?,
            &item(QUIT, words.quit, true)?,
        ],
    )
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is Tauri's")]
fn chosen(app: &AppHandle, event: MenuEvent) {
    match event.id().as_ref() {
        OPEN => window::show(app),
        QUIT => {
            tauri::async_runtime::spawn(app::end(app.clone()));
        }
        order @ (START | STOP) => {
            let start = order == START;
            let shell = app.state::<Arc<Shell>>().inner().clone();
            tauri::async_runtime::spawn(async move {
                // The state that follows says how it went, in the menu and in the window.
                if let Ok(sampan) = shell.sampan().await {
                    let result = if start { sampan.start().await.map(drop) } else { sampan.stop().await };
                    if let Err(failure) = result {
                        tracing::warn!("{failure}");
                    }
                }
            });
        }
        _ => {}
    }
}

/// Linux desktops show an item through a library that is loaded at run time, and whose absence aborts.
#[cfg(target_os = "linux")]
fn available() -> bool {
    let names = ["libayatana-appindicator3.so.1", "libappindicator3.so.1"];
    let triple = if cfg!(target_arch = "aarch64") { "aarch64-linux-gnu" } else { "x86_64-linux-gnu" };
    let places = [format!("/usr/lib/{triple}"), "/usr/lib64".to_owned(), "/usr/lib".to_owned()];
    places.iter().any(|place| names.iter().any(|name| std::path::Path::new(place).join(name).exists()))
}

#[cfg(not(target_os = "linux"))]
fn available() -> bool {
    true
}
