//! Networks: the list.

use host::docker::types::Network;

use super::{Answer, Shared, docker};

#[tauri::command]
pub(crate) async fn networks_list(shell: Shared<'_>) -> Answer<Vec<Network>> {
    Ok(docker(&shell).await?.networks().await?)
}
