//! Images: the list, one's details and history, pull, remove.

use futures_util::StreamExt as _;
use host::docker::types::{HistoryEntry, ImageInspect, ImageRemoved, ImageSummary, Progress};
use tauri::ipc::Channel;

use super::{Answer, Shared, docker};

#[tauri::command]
pub(crate) async fn images_list(shell: Shared<'_>) -> Answer<Vec<ImageSummary>> {
    Ok(docker(&shell).await?.images().await?)
}

#[tauri::command]
pub(crate) async fn image_inspect(shell: Shared<'_>, id: String) -> Answer<ImageInspect> {
    Ok(docker(&shell).await?.image(&id).await?)
}

#[tauri::command]
pub(crate) async fn image_history(shell: Shared<'_>, id: String) -> Answer<Vec<HistoryEntry>> {
    Ok(docker(&shell).await?.image_history(&id).await?)
}

#[tauri::command]
pub(crate) async fn image_remove(shell: Shared<'_>, name: String, force: bool) -> Answer<Vec<ImageRemoved>> {
    Ok(docker(&shell).await?.remove_image(&name, force).await?)
}

/// Pulls, with the engine's progress as it comes; cancelling it makes the engine stop.
#[tauri::command]
pub(crate) async fn image_pull(
    shell: Shared<'_>,
    reference: String,
    stream: u32,
    channel: Channel<Progress>,
) -> Answer<()> {
    let client = docker(&shell).await?;
    let work = async {
        let mut lines = client.pull_image(&reference).await?;
        while let Some(line) = lines.next().await {
            if channel.send(line?).is_err() {
                return Ok(());
            }
        }
        Ok(())
    };
    shell.stream(stream, work).await
}
