//! The VM: its state, start and stop.

use host::model::VmStatus;

use super::{Answer, Shared};
use crate::messages::Language;

#[tauri::command]
pub(crate) async fn vm_status(shell: Shared<'_>) -> Answer<VmStatus> {
    Ok(shell.sampan().await?.status())
}

/// Returns once the start is under way; the status tells the rest.
#[tauri::command]
pub(crate) async fn vm_start(shell: Shared<'_>) -> Answer<()> {
    shell.sampan().await?.start().await?;
    Ok(())
}

#[tauri::command]
pub(crate) async fn vm_stop(shell: Shared<'_>) -> Answer<()> {
    Ok(shell.sampan().await?.stop().await?)
}

/// The window knows the user's language; the menus follow it.
#[tauri::command]
#[expect(clippy::needless_pass_by_value, reason = "the signature is Tauri's")]
pub(crate) fn shell_locale(shell: Shared<'_>, locale: String) {
    shell.language().send_replace(Language::from_locale(&locale));
}
