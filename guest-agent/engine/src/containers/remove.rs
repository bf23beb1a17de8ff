//! What removing a container means for the disk, the names and its volumes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::container::Container;
use super::record::Record;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Takes away everything of a container that does not run. Its directory is renamed away at once and emptied
/// behind the answer, because an upper layer may hold a million files.
pub(crate) async fn remove(
    engine: &Engine,
    container: &Arc<Container>,
    record: &Record,
    volumes: bool,
) -> Result<()> {
    let trash = engine.inner().trash.join(&record.id);
    let directory = container.directory.clone();
    let moved = tokio::task::spawn_blocking({
        let trash = trash.clone();
        move || match fs::rename(&directory, &trash) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    });
    moved.await.map_err(Error::system)?.map_err(|error| {
        Error::system(format_args!(
            "container {}: driver \"overlay2\" failed to remove root filesystem: {error}",
            record.id
        ))
    })?;
    let inner = engine.inner();
    inner.store.delete("container", &record.id);
    inner.registry.free_name(&record.name, &record.id);
    inner.registry.remove(&record.id);
    for id in container.execs().keys() {
        inner.execs.remove(id);
    }
    if volumes {
        for entry in record.mounts.iter().filter(|entry| entry.anonymous && entry.is_volume()) {
            // Another container may use it by `--volumes-from`; then it stays.
            let _ = engine.volumes().remove(&entry.point.name, true).await;
        }
    }
    tokio::task::spawn_blocking(move || empty(&trash));
    Ok(())
}

/// Removes a directory tree that nobody uses any more.
pub(crate) fn empty(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!("cannot remove `{}`: {error}", path.display());
        }
        _ => {}
    }
}
