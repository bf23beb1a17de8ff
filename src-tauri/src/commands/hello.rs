//! The hello image that comes with the VM image: a first container without a network.

use futures_util::StreamExt as _;
use host::docker::types::Progress;
use host::model::{Failure, FailureKind};
use tauri::ipc::Channel;

use super::{Answer, Shared, docker};

/// Whether this installation has it.
#[tauri::command]
#[expect(clippy::needless_pass_by_value, reason = "the signature is Tauri's")]
pub(crate) fn hello_available(shell: Shared<'_>) -> bool {
    shell.hello_archive().is_some()
}

/// Loads it into the engine; the progress names the image.
#[tauri::command]
pub(crate) async fn hello_load(shell: Shared<'_>, stream: u32, channel: Channel<Progress>) -> Answer<()> {
    let archive = shell.hello_archive().ok_or_else(|| {
        Failure::new(FailureKind::MissingDependency, "this installation has no hello image")
    })?;
    let client = docker(&shell).await?;
    let work = async {
        let mut lines = client.load_image(&archive).await?;
        while let Some(line) = lines.next().await {
            if channel.send(line?).is_err() {
                return Ok(());
            }
        }
        Ok(())
    };
    shell.stream(stream, work).await
}
