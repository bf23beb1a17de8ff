//! The manifest of a pushed image: the one that it came with, if it still fits, or a new one.

use bytes::Bytes;
use serde_json::json;

use crate::manifest::{
    DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Document, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST,
};
use crate::store::{CompressedBlob, Image, Inner, read_blob};
use crate::{Digest, ImageError};

pub(super) struct Pushed {
    pub(super) raw: Bytes,
    pub(super) media_type: &'static str,
    pub(super) digest: Digest,
}

/// The manifest for an image whose layers are in the registry as `pushed`.
pub(super) fn of(
    inner: &Inner,
    image: &Image,
    pushed: &[(Digest, CompressedBlob)],
) -> Result<Pushed, ImageError> {
    let blobs = image
        .layers
        .iter()
        .map(|layer| {
            let found = pushed.iter().find(|(diff_id, _)| *diff_id == layer.diff_id);
            let missing = || ImageError::corrupt(format!("layer {} was not pushed", layer.diff_id));
            found.map(|(_, blob)| blob).ok_or_else(missing)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(own) = own(inner, image, &blobs) {
        return Ok(own);
    }
    // Docker's own media types have no zstandard.
    let oci = blobs.iter().any(|blob| blob.media_type.ends_with("zstd"));
    let (media_type, config_type) =
        if oci { (OCI_MANIFEST, OCI_CONFIG) } else { (DOCKER_MANIFEST, DOCKER_CONFIG) };
    let layers: Vec<_> = blobs
        .iter()
        .map(|blob| json!({"mediaType": layer_type(blob, oci), "size": blob.size, "digest": blob.digest}))
        .collect();
    let config = json!({"mediaType": config_type, "size": image.raw_config.len(), "digest": image.id});
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers}).to_string();
    let raw = Bytes::from(manifest);
    Ok(Pushed { digest: Digest::of(&raw), raw, media_type })
}

/// The manifest that the image was pulled by: the same bytes have the same digest.
fn own(inner: &Inner, image: &Image, blobs: &[&CompressedBlob]) -> Option<Pushed> {
    let digest = image.manifest?;
    let raw = read_blob(&inner.paths, &digest).ok()?;
    let Ok(Document::Manifest(manifest)) = Document::parse(&raw, None) else { return None };
    let same = manifest.config.digest == image.id.0
        && manifest.layers.len() == blobs.len()
        && manifest.layers.iter().zip(blobs).all(|(layer, blob)| layer.digest == blob.digest);
    let said = serde_json::from_slice::<serde_json::Value>(&raw).ok()?;
    let media_type = match said["mediaType"].as_str() {
        Some(DOCKER_MANIFEST) => DOCKER_MANIFEST,
        // An OCI manifest need not say what it is.
        _ => OCI_MANIFEST,
    };
    same.then(|| Pushed { raw: raw.into(), media_type, digest })
}

fn layer_type(blob: &CompressedBlob, oci: bool) -> String {
    let form = if blob.media_type.ends_with("gzip") {
        "gzip"
    } else if blob.media_type.ends_with("zstd") {
        "zstd"
    } else {
        ""
    };
    match (oci, form) {
        (true, "") => OCI_LAYER.to_owned(),
        (true, form) => format!("{OCI_LAYER}+{form}"),
        (false, "") => DOCKER_LAYER.to_owned(),
        (false, form) => format!("{DOCKER_LAYER}.{form}"),
    }
}
