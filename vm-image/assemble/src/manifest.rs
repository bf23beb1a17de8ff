//! What an image was made from and what it is: the proof that two builds gave the same bytes.

use std::fmt;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The content of `manifest.json`.
#[derive(Serialize)]
pub(crate) struct Manifest {
    pub(crate) arch: String,
    pub(crate) kernel: String,
    pub(crate) inputs: Vec<Entry>,
    pub(crate) outputs: Vec<Entry>,
}

/// One file.
#[derive(Serialize)]
pub(crate) struct Entry {
    name: String,
    size: usize,
    sha256: String,
}

/// Describes a file.
pub(crate) fn entry(name: &str, bytes: &[u8]) -> Entry {
    let mut sha256 = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        sha256.push_str(&format!("{byte:02x}"));
    }
    Entry { name: name.to_owned(), size: bytes.len(), sha256 }
}

impl Manifest {
    pub(crate) fn to_json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} image with Linux {}:", self.arch, self.kernel)?;
        for output in &self.outputs {
            writeln!(f, "  {:<14} {:>9} bytes  sha256 {}", output.name, output.size, output.sha256)?;
        }
        Ok(())
    }
}
