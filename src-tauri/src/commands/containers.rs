//! Containers: the list, one's details, its life, its log.

use futures_util::StreamExt as _;
use host::docker::types::{
    ContainerInspect, ContainerSummary, CreateContainer, Created, LogChunk, LogOptions,
};
use tauri::ipc::Channel;

use super::{Answer, Shared, docker};

/// Pieces of a log that go to the window in one message at most.
const LOG_BATCH: usize = 512;

#[tauri::command]
pub(crate) async fn containers_list(shell: Shared<'_>) -> Answer<Vec<ContainerSummary>> {
    Ok(docker(&shell).await?.containers(true).await?)
}

#[tauri::command]
pub(crate) async fn container_inspect(shell: Shared<'_>, id: String) -> Answer<ContainerInspect> {
    Ok(docker(&shell).await?.container(&id).await?)
}

#[tauri::command]
pub(crate) async fn container_create(
    shell: Shared<'_>,
    name: Option<String>,
    create: CreateContainer,
) -> Answer<Created> {
    Ok(docker(&shell).await?.create_container(name.as_deref(), &create).await?)
}

#[tauri::command]
pub(crate) async fn container_start(shell: Shared<'_>, id: String) -> Answer<()> {
    Ok(docker(&shell).await?.start_container(&id).await?)
}

#[tauri::command]
pub(crate) async fn container_stop(shell: Shared<'_>, id: String) -> Answer<()> {
    Ok(docker(&shell).await?.stop_container(&id).await?)
}

#[tauri::command]
pub(crate) async fn container_restart(shell: Shared<'_>, id: String) -> Answer<()> {
    Ok(docker(&shell).await?.restart_container(&id).await?)
}

/// Its anonymous volumes go with it.
#[tauri::command]
pub(crate) async fn container_remove(shell: Shared<'_>, id: String, force: bool) -> Answer<()> {
    Ok(docker(&shell).await?.remove_container(&id, force, true).await?)
}

/// The log, as it comes; ends with the container, or when the window cancels it.
#[tauri::command]
pub(crate) async fn container_logs(
    shell: Shared<'_>,
    id: String,
    options: LogOptions,
    stream: u32,
    channel: Channel<Vec<LogChunk>>,
) -> Answer<()> {
    let client = docker(&shell).await?;
    let work = async {
        let mut batches = client.container_logs(&id, &options).await?.ready_chunks(LOG_BATCH);
        while let Some(batch) = batches.next().await {
            let mut chunks = Vec::with_capacity(batch.len());
            let mut broken = None;
            for item in batch {
                match item {
                    Ok(chunk) => chunks.push(chunk),
                    Err(error) => broken = Some(error),
                }
            }
            // A window that has gone needs no log.
            if channel.send(chunks).is_err() {
                return Ok(());
            }
            if let Some(error) = broken {
                return Err(error.into());
            }
        }
        Ok(())
    };
    shell.stream(stream, work).await
}
