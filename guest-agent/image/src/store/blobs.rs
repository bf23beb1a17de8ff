//! Manifests, indexes and configs: small blobs, each in a file named by its digest.
//!
//! Layers are not among them: a layer is unpacked while it arrives, and its compressed form is not kept.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Paths;
use crate::{Digest, ImageError};

/// Larger than any manifest or config that registries accept.
pub(crate) const MAX_BLOB: u64 = 8 * 1024 * 1024;

/// Where a blob lies.
pub(crate) fn path(paths: &Paths, digest: &Digest) -> PathBuf {
    paths.blobs.join(digest.hex())
}

/// Writes a blob so that it is whole or absent, whatever happens; it survives power loss when this returns.
pub(crate) fn write(paths: &Paths, content: &[u8]) -> Result<Digest, ImageError> {
    let digest = Digest::of(content);
    let target = path(paths, &digest);
    if fs::metadata(&target).is_ok_and(|metadata| metadata.len() == content.len() as u64) {
        return Ok(digest);
    }
    let temporary = paths.fresh_ingest()?;
    let write = || -> io::Result<()> {
        let mut file = File::create_new(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, &target)?;
        sync_directory(&paths.blobs)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        ImageError::File { doing: "write", path: target.clone(), source }
    })?;
    Ok(digest)
}

/// Reads a blob and checks it against its name.
pub(crate) fn read(paths: &Paths, digest: &Digest) -> Result<Vec<u8>, ImageError> {
    let path = path(paths, digest);
    let size = fs::metadata(&path).map_err(ImageError::file("read", &path))?.len();
    if size > MAX_BLOB {
        return Err(ImageError::corrupt(format!(
            "blob {digest} has {size} bytes, more than any config or manifest"
        )));
    }
    let content = fs::read(&path).map_err(ImageError::file("read", &path))?;
    let actual = Digest::of(&content);
    if actual != *digest {
        return Err(ImageError::DigestMismatch { what: "blob", expected: *digest, actual });
    }
    Ok(content)
}

/// Makes the names in a directory survive power loss.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
