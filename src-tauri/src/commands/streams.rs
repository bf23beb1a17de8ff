//! The window's streams: their early end.

use super::Shared;

#[tauri::command]
#[expect(clippy::needless_pass_by_value, reason = "the signature is Tauri's")]
pub(crate) fn stream_cancel(shell: Shared<'_>, stream: u32) {
    shell.cancel(stream);
}
