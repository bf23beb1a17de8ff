//! The smallest real images, a store to put them in, and a real registry to pull them from.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::{Digest, LayerStage, PullEvent, PullRequest, Pulled, RegistryConfig, Store, StoreConfig};
use serde_json::json;

pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(crate) const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) tar: Vec<u8>,
    pub(crate) blob: Vec<u8>,
    pub(crate) media_type: &'static str,
}

pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn layer(files: &[(&str, &[u8])], media_type: &'static str) -> Layer {
    let tar = tar(files);
    let blob = match media_type {
        GZIP => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&tar).unwrap();
            gzip.finish().unwrap()
        }
        ZSTD => zstd::encode_all(tar.as_slice(), 1).unwrap(),
        _ => tar.clone(),
    };
    Layer { tar, blob, media_type }
}

#[derive(Clone)]
pub(crate) struct Built {
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) layers: Vec<Layer>,
}

impl Built {
    pub(crate) fn id(&self) -> String {
        Digest::of(&self.config).to_string()
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }
}

pub(crate) fn built(architecture: &str, layers: Vec<Layer>) -> Built {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(&layer.tar)).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": {"Cmd": ["/a"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "ADD a"}, {"created_by": "CMD a", "empty_layer": true}],
    });
    let config = config.to_string().into_bytes();
    let descriptors: Vec<_> = layers
        .iter()
        .map(|layer| json!({"mediaType": layer.media_type, "digest": Digest::of(&layer.blob), "size": layer.blob.len()}))
        .collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": descriptors,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config), "size": config.len()},
    });
    Built { config, manifest: manifest.to_string().into_bytes(), layers }
}

/// One gzip layer with one file.
pub(crate) fn small(content: &[u8]) -> Built {
    built("amd64", vec![layer(&[("a", content)], GZIP)])
}

/// Bytes that do not compress, so that a blob has a size worth cutting.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

pub(crate) struct Home {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Store,
}

pub(crate) fn open(directory: &Path) -> Store {
    let database = redb::Database::create(directory.join("db")).unwrap();
    Store::open(StoreConfig::new(directory.join("images"), Arc::new(database))).unwrap()
}

impl Home {
    pub(crate) fn new() -> Home {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        Home { directory, store }
    }

    /// Names in one of the store's directories.
    pub(crate) fn names(&self, directory: &str) -> Vec<String> {
        let path = self.directory.path().join("images").join(directory);
        std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// Nothing of a failed operation is left.
    pub(crate) fn assert_empty(&self) {
        for directory in ["layers", "ingest", "blobs/sha256"] {
            let deadline = Instant::now() + Duration::from_secs(5);
            while !self.names(directory).is_empty() && Instant::now() < deadline {
                std::thread::yield_now();
            }
            assert_eq!(self.names(directory), Vec::<String>::new(), "left in {directory}");
        }
        assert!(self.store.list().is_empty());
    }

    pub(crate) async fn pull(&self, reference: &str) -> (Vec<String>, Result<Pulled, String>) {
        self.pull_with(reference, |_| {}).await
    }

    pub(crate) async fn pull_with(
        &self,
        reference: &str,
        change: impl FnOnce(&mut PullRequest),
    ) -> (Vec<String>, Result<Pulled, String>) {
        let mut request = PullRequest {
            reference: reference.parse().unwrap(),
            platform: None,
            auth: None,
            registries: RegistryConfig { retry_delay: Duration::from_millis(1), ..RegistryConfig::default() },
        };
        change(&mut request);
        let mut events = self.store.pull(request);
        let mut lines = Vec::new();
        loop {
            match events.recv().await.expect("a pull ends with Done or Error") {
                PullEvent::Status { id: Some(id), status } => lines.push(format!("{id}: {status}")),
                PullEvent::Status { id: None, status } => lines.push(status),
                PullEvent::Layer {
                    stage: LayerStage::Downloading(_) | LayerStage::Extracting(_), ..
                } => {}
                PullEvent::Layer { id, stage } => lines.push(format!("{id}: {}", stage.label())),
                PullEvent::Done(pulled) => return (lines, Ok(pulled)),
                PullEvent::Error(error) => return (lines, Err(error.sentence())),
            }
        }
    }
}

/// Debian's `docker-registry` on a free port of the loopback.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    process: Child,
    _root: tempfile::TempDir,
}

impl Registry {
    /// `None`, loudly, where the program is not installed.
    pub(crate) fn start() -> Option<Registry> {
        let program = Path::new("/usr/bin/docker-registry");
        if !program.exists() {
            eprintln!("SKIPPED: {} is not installed", program.display());
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            root.path().join("data").display()
        );
        std::fs::write(root.path().join("config.yml"), config).unwrap();
        let process = Command::new(program)
            .arg("serve")
            .arg(root.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Registry { address, process, _root: root };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "the registry does not listen");
            std::thread::yield_now();
        }
        Some(registry)
    }

    pub(crate) fn push(&self, repository: &str, tag: &str, image: &Built) {
        let blobs = image.layers.iter().map(|layer| layer.blob.as_slice()).chain([image.config.as_slice()]);
        for blob in blobs {
            let (status, head, _) =
                self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
            assert_eq!(status, 202);
            let location = head.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap().to_owned();
            let path = &location[location.find("/v2/").unwrap()..];
            let target = format!("{path}&digest={}", Digest::of(blob));
            let (status, _, body) = self.request("PUT", &target, "application/octet-stream", blob);
            assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        }
        self.push_manifest(repository, tag, MANIFEST, &image.manifest);
    }

    pub(crate) fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (status, _, body) = self.request("PUT", &path, media_type, manifest);
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    }

    fn request(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, answer[end + 4..].to_vec())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
