//! Volumes: the list.

use host::docker::types::Volume;

use super::{Answer, Shared, docker};

#[tauri::command]
pub(crate) async fn volumes_list(shell: Shared<'_>) -> Answer<Vec<Volume>> {
    Ok(docker(&shell).await?.volumes().await?)
}
