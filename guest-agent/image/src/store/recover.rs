//! Opening a store: what the database says is true, and everything else under the root is a leftover.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::index::{Config, Index};
use super::tables::{self, Change, ImageRecord, Rows};
use super::{Paths, blobs, fresh_name, layers};
use crate::{Digest, ImageConfig, ImageError, ImageId};

/// Reads the tables, mends what contradicts itself, and clears the directories of what no row names.
pub(crate) fn recover(paths: &Paths, database: &redb::Database) -> Result<Index, ImageError> {
    let rows = tables::read(database)?;
    let mut index = Index::default();
    let mut repairs = Vec::new();
    let known = load_images(paths, &rows, &mut index, &mut repairs);
    repair_layers(paths, &rows, &known, &mut repairs);
    let alive: HashSet<ImageId> = known.iter().map(|(image, _)| *image).collect();
    for (reference, image) in &rows.references {
        if !alive.contains(image) {
            tracing::warn!(%reference, %image, "reference to an image that is gone: removed");
            repairs.push(Change::DropReference(reference.clone()));
        }
    }
    let mut changes: Vec<Change> = Vec::new();
    changes.extend(rows.layers.into_iter().map(|(layer, record)| Change::PutLayer(layer, record)));
    changes.extend(known.into_iter().map(|(image, record)| Change::PutImage(image, record)));
    changes.extend(rows.references.into_iter().map(|(name, image)| Change::PutReference(name, image)));
    if !repairs.is_empty() {
        tables::commit(database, &repairs)?;
        changes.extend(repairs);
    }
    index.apply(&changes);
    clear(paths, &index)?;
    Ok(index)
}

/// Reads each image's config. An image that lost its config or a layer can serve nobody: its row goes.
fn load_images(
    paths: &Paths,
    rows: &Rows,
    index: &mut Index,
    repairs: &mut Vec<Change>,
) -> Vec<(ImageId, ImageRecord)> {
    let mut known = Vec::new();
    for (image, record) in &rows.images {
        let config = blobs::read(paths, &image.0).and_then(|raw| Ok((ImageConfig::parse(&raw)?, raw)));
        let missing = record.layers.iter().find(|layer| !paths.layer(layer).join("diff").is_dir());
        match (config, missing) {
            (Ok((parsed, raw)), None) => {
                index.add_config(*image, Config { parsed: Arc::new(parsed), raw: raw.into() });
                known.push((*image, record.clone()));
            }
            (Err(error), _) => {
                tracing::error!(%image, error = error.sentence(), "image without its config: removed");
                repairs.push(Change::DropImage(*image));
            }
            (Ok(_), Some(layer)) => {
                tracing::error!(%image, %layer, "image without one of its layers: removed");
                repairs.push(Change::DropImage(*image));
            }
        }
    }
    known
}

/// Makes each layer's count what the images say, and drops rows that no image counts on.
fn repair_layers(paths: &Paths, rows: &Rows, images: &[(ImageId, ImageRecord)], repairs: &mut Vec<Change>) {
    let mut counts = std::collections::HashMap::<Digest, u64>::new();
    for layer in images.iter().flat_map(|(_, record)| &record.layers) {
        *counts.entry(*layer).or_default() += 1;
    }
    for (layer, record) in &rows.layers {
        match counts.remove(layer) {
            Some(count) if count == record.references => {}
            Some(count) => {
                tracing::warn!(%layer, was = record.references, is = count, "layer count mended");
                let record = tables::LayerRecord { references: count, ..record.clone() };
                repairs.push(Change::PutLayer(*layer, record));
            }
            None => repairs.push(Change::DropLayer(*layer)),
        }
    }
    for (layer, references) in counts {
        let size = layers::disk_usage(&paths.layer(&layer).join("diff"));
        tracing::warn!(%layer, "layer without a row: row made");
        repairs.push(Change::PutLayer(layer, tables::LayerRecord { references, size, ..Default::default() }));
    }
}

/// Moves everything that no row names into the trash.
fn clear(paths: &Paths, index: &Index) -> Result<(), ImageError> {
    let layers: HashSet<String> = index.layers.keys().map(Digest::hex).collect();
    let blobs: HashSet<String> = index
        .records
        .iter()
        .flat_map(|(image, record)| {
            [image.0].into_iter().chain(record.manifest).chain(record.indexes.iter().copied())
        })
        .map(|digest| digest.hex())
        .collect();
    clear_directory(paths, &paths.layers, "layer", &layers)?;
    clear_directory(paths, &paths.blobs, "blob", &blobs)?;
    clear_directory(paths, &paths.ingest, "unfinished download", &HashSet::new())
}

fn clear_directory(
    paths: &Paths,
    directory: &Path,
    what: &str,
    keep: &HashSet<String>,
) -> Result<(), ImageError> {
    for entry in fs::read_dir(directory).map_err(ImageError::file("read", directory))? {
        let entry = entry.map_err(ImageError::file("read", directory))?;
        if entry.file_name().to_str().is_some_and(|name| keep.contains(name)) {
            continue;
        }
        tracing::info!(what, name = %entry.file_name().display(), "leftover removed");
        let target = paths.trash.join(fresh_name()?);
        fs::rename(entry.path(), &target).map_err(ImageError::file("remove", entry.path()))?;
    }
    Ok(())
}
