//! Layers: from a stream of bytes to a directory that overlay can mount, and back to the same bytes.

mod compression;
mod ingest;
mod pack;
mod rebuild;
mod record;
pub(crate) mod tar;
mod tree;
mod unpack;

#[cfg(test)]
mod tests;

pub(crate) use compression::{is_compressed, open as decompress};
pub(crate) use ingest::{Arrival, Ingested, Input, Promise, Workspace, ingest};
pub use pack::{Pack, PackError};
pub(crate) use rebuild::rebuild;
pub(crate) use unpack::is_opaque;

/// The files of a layer, in its directory.
pub(crate) const DIFF: &str = "diff";
/// The rest of its tar.
pub(crate) const HEADERS: &str = "headers";
/// Files that a later entry of the same layer replaced.
pub(crate) const REPLACED: &str = "replaced";

/// What a layer may ask for at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes of the uncompressed tar.
    pub bytes: u64,
    /// Entries of the tar.
    pub entries: u64,
    /// Bytes that are left free on the file system, whatever the layer wants.
    pub reserve: u64,
    /// Whether device nodes are made; they are refused otherwise.
    pub devices: bool,
}

impl Default for UnpackLimits {
    fn default() -> UnpackLimits {
        UnpackLimits {
            // Larger than any layer that is of use, and smaller than what a bomb of a few hundred kilobytes can ask for.
            bytes: 256 << 30,
            entries: 10_000_000,
            reserve: 64 << 20,
            devices: true,
        }
    }
}
