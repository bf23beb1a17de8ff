//! What the window may ask, one file per noun, one function per question: call `host`, hand back its answer.
//!
//! The same names, arguments and answers stand in `ui/src/backend/rpc.ts`.

mod containers;
mod hello;
mod images;
mod networks;
mod streams;
mod vm;
mod volumes;

use std::error::Error;
use std::sync::Arc;

use host::docker::{Client, ClientError};
use host::model::Failure;
use serde::Serialize;
use tauri::ipc::Invoke;
use tauri::{State, Wry};

use crate::shell::Shell;

type Shared<'a> = State<'a, Arc<Shell>>;

/// A refusal as the window shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Refusal {
    message: String,
    details: Option<String>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal { message: failure.message, details: failure.details }
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Refusal {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        let details = (!causes.is_empty()).then(|| causes.join("\n"));
        Refusal { message: error.to_string(), details }
    }
}

type Answer<T> = Result<T, Refusal>;

async fn docker(shell: &Shell) -> Answer<Client> {
    Ok(shell.sampan().await?.docker())
}

/// All commands.
pub(crate) fn handler() -> impl Fn(Invoke<Wry>) -> bool + Send + Sync + 'static {
    tauri::generate_handler![
        vm::vm_status,
        vm::vm_start,
        vm::vm_stop,
        vm::shell_locale,
        containers::containers_list,
        containers::container_inspect,
        containers::container_create,
        containers::container_start,
        containers::container_stop,
        containers::container_restart,
        containers::container_remove,
        containers::container_logs,
        hello::hello_available,
        hello::hello_load,
        images::images_list,
        images::image_inspect,
        images::image_history,
        images::image_remove,
        images::image_pull,
        volumes::volumes_list,
        networks::networks_list,
        streams::stream_cancel,
    ]
}
