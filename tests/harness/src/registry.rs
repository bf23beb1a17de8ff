//! Debian's `docker-registry`, started on the sandbox's loopback and filled over HTTP.

use std::{
    fs,
    io::Write,
    process::{Child, Stdio},
    sync::Arc,
};

use flate2::{Compression, write::GzEncoder};
use hello_image::{Image, digest};
use serde_json::{Value, json};

use crate::{Output, Sandbox, eventually, settings};

/// The media type of the manifests that this harness pushes (Docker image manifest, schema 2).
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The media type of OCI's manifests.
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The media type of a manifest list.
const MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// The media types of an image, and how its layers are compressed.
struct Form {
    manifest: &'static str,
    config: &'static str,
    layer: &'static str,
    compress: fn(&[u8]) -> Vec<u8>,
}

const DOCKER_GZIP: Form = Form {
    manifest: MANIFEST,
    config: "application/vnd.docker.container.image.v1+json",
    layer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
    compress: gzip,
};

const OCI_ZSTD: Form = Form {
    manifest: OCI_MANIFEST,
    config: "application/vnd.oci.image.config.v1+json",
    layer: "application/vnd.oci.image.layer.v1.tar+zstd",
    compress: zstd,
};

/// A registry at `127.0.0.1` on a port of its own in the sandbox.
pub struct Registry {
    sandbox: Arc<Sandbox>,
    process: Child,
    port: u16,
}

impl Registry {
    /// What a registry needs of the machine.
    ///
    /// # Errors
    /// When it isn't installed.
    pub fn available() -> Result<(), String> {
        Sandbox::available()?;
        settings::program("docker-registry").map(drop)
    }

    /// Starts an empty registry on port 5000 of the sandbox.
    ///
    /// # Panics
    /// When it doesn't answer.
    #[must_use]
    pub fn start(sandbox: &Arc<Sandbox>) -> Self {
        Self::start_on(sandbox, 5000, "")
    }

    /// Starts an empty registry on a port, with more YAML at the end of its configuration.
    ///
    /// # Panics
    /// When it doesn't answer.
    #[must_use]
    pub fn start_on(sandbox: &Arc<Sandbox>, port: u16, more: &str) -> Self {
        let storage = sandbox.path(&format!("registry-{port}"));
        let config = sandbox.path(&format!("registry-{port}.yml"));
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{more}",
            storage.display()
        );
        fs::write(&config, text).expect("the registry's configuration is written");
        let log = fs::File::create(sandbox.path(&format!("registry-{port}.log"))).expect("a log file");
        let process = sandbox
            .command("docker-registry")
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("docker-registry starts");
        let registry = Self { sandbox: Arc::clone(sandbox), process, port };
        let url = registry.url("");
        eventually("the registry answers", || {
            (registry.sandbox.curl(["--output", "/dev/null", &url]).code() == Some(0)).then_some(())
        });
        registry
    }

    /// `127.0.0.1:PORT/NAME`: the reference of a repository here.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/v2/{path}", self.port)
    }

    /// Pushes an image with gzip layers and returns its manifest's digest.
    pub fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        let manifest = self.push_parts(repository, image);
        self.put_manifest(repository, tag, MANIFEST, &manifest)
    }

    /// Pushes an image with zstandard layers, which only OCI's manifest has a name for; returns the manifest's digest.
    pub fn push_zstd(&self, repository: &str, tag: &str, image: &Image) -> String {
        let manifest = self.push_parts_as(repository, image, &OCI_ZSTD);
        self.put_manifest(repository, tag, OCI_ZSTD.manifest, &manifest)
    }

    /// Pushes images for several architectures under one tag; returns the list's digest.
    pub fn push_list(&self, repository: &str, tag: &str, images: &[(&str, &Image)]) -> String {
        let entries: Vec<Value> = images
            .iter()
            .map(|(architecture, image)| {
                let manifest = self.push_parts(repository, image);
                let digest = self.put_manifest(repository, &digest(&manifest), MANIFEST, &manifest);
                json!({ "mediaType": MANIFEST, "size": manifest.len(), "digest": digest,
                        "platform": { "os": "linux", "architecture": architecture } })
            })
            .collect();
        let list = json!({ "schemaVersion": 2, "mediaType": MANIFEST_LIST, "manifests": entries });
        self.put_manifest(repository, tag, MANIFEST_LIST, list.to_string().as_bytes())
    }

    fn push_parts(&self, repository: &str, image: &Image) -> Vec<u8> {
        self.push_parts_as(repository, image, &DOCKER_GZIP)
    }

    /// Uploads config and layers; returns the manifest that names them.
    fn push_parts_as(&self, repository: &str, image: &Image, form: &Form) -> Vec<u8> {
        let config = image.config_json();
        self.put_blob(repository, &config);
        let layers: Vec<Value> = image
            .layers()
            .iter()
            .map(|tar| {
                let blob = (form.compress)(tar);
                self.put_blob(repository, &blob);
                json!({ "mediaType": form.layer, "size": blob.len(), "digest": digest(&blob) })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": form.manifest,
            "config": { "mediaType": form.config, "size": config.len(), "digest": digest(&config) },
            "layers": layers,
        });
        manifest.to_string().into_bytes()
    }

    /// Uploads one blob (distribution spec: POST, then PUT with the digest).
    pub fn put_blob(&self, repository: &str, content: &[u8]) {
        let begin = self.url(&format!("{repository}/blobs/uploads/"));
        let head = self
            .sandbox
            .curl(["--fail", "--dump-header", "-", "--request", "POST", &begin])
            .success()
            .stdout();
        let location = head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("location")))
            .map(|(_, value)| value.trim().to_owned())
            .expect("the registry says where to upload");
        let finish = format!("{location}&digest={}", digest(content));
        let _ = self.send(&finish, "application/octet-stream", content);
    }

    /// Uploads a manifest under a tag or digest; returns its digest.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) -> String {
        let _ = self.send(&self.url(&format!("{repository}/manifests/{tag}")), media_type, manifest);
        digest(manifest)
    }

    /// The file in which the registry keeps a blob, for tests that damage it.
    #[must_use]
    pub fn blob_file(&self, digest: &str) -> std::path::PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let storage = self.sandbox.path(&format!("registry-{}", self.port));
        storage.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    fn send(&self, url: &str, media_type: &str, content: &[u8]) -> Output {
        let kind = format!("Content-Type: {media_type}");
        let mut command = self.sandbox.command("curl");
        command.args(["--silent", "--show-error", "--fail-with-body", "--request", "PUT", "--header", &kind]);
        command.args(["--header", "Expect:", "--data-binary", "@-", url]);
        Output::with_input(&mut command, content).success()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The bytes, compressed by the `zstd` command.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut process = std::process::Command::new("zstd")
        .args(["-3", "--stdout", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("zstd starts");
    let mut input = process.stdin.take().expect("stdin is piped");
    let mut output = process.stdout.take().expect("stdout is piped");
    let mut compressed = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).expect("zstd reads"));
        output.read_to_end(&mut compressed).expect("zstd writes");
    });
    assert!(process.wait().expect("zstd ends").success());
    compressed
}

/// The bytes, gzip-compressed as fast as possible.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("a vector takes all bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hello_image::Entry;

    #[test]
    fn a_pushed_image_can_be_fetched_by_tag() {
        crate::require!(Registry::available());
        let registry = Registry::start(&Arc::new(Sandbox::new()));
        let image = Image::new().layer(&[Entry::File("a", 0o644, b"a")]).unwrap();
        let pushed = registry.push("box/a", "1", &image);
        let accept = format!("Accept: {MANIFEST}");
        let url = registry.url("box/a/manifests/1");
        let fetched = registry.sandbox.curl(["--fail", "--header", &accept, &url]).success().stdout();
        assert_eq!(digest(fetched.as_bytes()), pushed);
    }
}
