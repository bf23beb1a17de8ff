//! Writes small images as Docker archives, the format of `docker save` and `docker load`.
//!
//! Sampan's first container must run without a network, so its image is made here from one static
//! program ([`hello`](../hello/index.html)); the tests make theirs the same way. The same input
//! gives the same bytes: entries are in the caller's order, owned by root, dated at the epoch.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// One file of a layer.
pub enum Entry<'a> {
    /// A directory with its mode.
    Directory(&'a str, u32),
    /// A regular file with its mode and content.
    File(&'a str, u32, &'a [u8]),
    /// A symbolic link: name, then target.
    Symlink(&'a str, &'a str),
}

/// An image in the making: its layers as tar archives, and what its container runs.
#[derive(Default)]
pub struct Image {
    layers: Vec<Vec<u8>>,
    config: serde_json::Map<String, Value>,
    architecture: Option<String>,
}

impl Image {
    /// An image without layers that runs nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the architecture by Docker's name (`amd64`, `arm64`); the building machine's otherwise.
    #[must_use]
    pub fn architecture(mut self, name: &str) -> Self {
        self.architecture = Some(name.to_owned());
        self
    }

    /// Adds a field of the image's config, such as `Cmd`, by the name that OCI's image spec gives it.
    #[must_use]
    pub fn config(mut self, field: &str, value: Value) -> Self {
        self.config.insert(field.to_owned(), value);
        self
    }

    /// Adds a layer on top.
    ///
    /// # Errors
    /// When a name doesn't fit into a tar header.
    pub fn layer(self, entries: &[Entry<'_>]) -> std::io::Result<Self> {
        let tar = layer(entries)?;
        Ok(self.raw_layer(tar))
    }

    /// Adds a layer that is a tar archive already.
    #[must_use]
    pub fn raw_layer(mut self, tar: Vec<u8>) -> Self {
        self.layers.push(tar);
        self
    }

    /// The layers' tar archives, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Vec<u8>] {
        &self.layers
    }

    /// The image's config as JSON (OCI image spec, config.md).
    #[must_use]
    pub fn config_json(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|tar| digest(tar)).collect();
        let architecture = self.architecture.as_deref().unwrap_or(match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        });
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": self.layers.iter().map(|_| json!({ "created": "1970-01-01T00:00:00Z", "created_by": "sampan" })).collect::<Vec<_>>(),
        });
        config.to_string().into_bytes()
    }

    /// The image as a Docker archive under the given tags.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub fn archive(&self, tags: &[&str]) -> std::io::Result<Vec<u8>> {
        let config = self.config_json();
        let config_name = format!("{}.json", &digest(&config)["sha256:".len()..]);
        let layer_names: Vec<String> =
            self.layers.iter().map(|tar| format!("{}/layer.tar", &digest(tar)["sha256:".len()..])).collect();
        let manifest = json!([{ "Config": config_name, "RepoTags": tags, "Layers": layer_names }])
            .to_string()
            .into_bytes();
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, &Entry::File(&config_name, 0o644, &config))?;
        for (name, tar) in layer_names.iter().zip(&self.layers) {
            append(&mut builder, &Entry::File(name, 0o644, tar))?;
        }
        append(&mut builder, &Entry::File("manifest.json", 0o644, &manifest))?;
        builder.into_inner()
    }
}

/// A tar archive of the entries, in their order.
///
/// # Errors
/// When a name doesn't fit into a tar header.
pub fn layer(entries: &[Entry<'_>]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        append(&mut builder, entry)?;
    }
    builder.into_inner()
}

/// The content's digest as OCI writes it: `sha256:` and lower-case hexadecimal digits.
#[must_use]
pub fn digest(content: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(content).iter().fold(String::from("sha256:"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn append(builder: &mut tar::Builder<Vec<u8>>, entry: &Entry<'_>) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    match *entry {
        Entry::Directory(name, mode) => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(mode);
            header.set_size(0);
            builder.append_data(&mut header, name, std::io::empty())
        }
        Entry::File(name, mode, content) => {
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, content)
        }
        Entry::Symlink(name, target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            builder.append_link(&mut header, name, target)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Image {
        let entries = [Entry::Directory("bin", 0o755), Entry::File("bin/hello", 0o755, b"program")];
        Image::new().config("Cmd", json!(["/bin/hello"])).layer(&entries).unwrap()
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(sample().archive(&["a:b"]).unwrap(), sample().archive(&["a:b"]).unwrap());
    }

    #[test]
    fn the_manifest_names_files_that_are_there() {
        let archive = sample().archive(&["a:b"]).unwrap();
        let mut names = Vec::new();
        let mut manifest = Value::Null;
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            let entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            if name == "manifest.json" {
                manifest = serde_json::from_reader(entry).unwrap();
            }
            names.push(name);
        }
        assert!(names.contains(&manifest[0]["Config"].as_str().unwrap().to_owned()));
        assert!(names.contains(&manifest[0]["Layers"][0].as_str().unwrap().to_owned()));
        assert_eq!(manifest[0]["RepoTags"][0], "a:b");
    }
}
