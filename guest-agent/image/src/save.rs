//! Saving images to an archive that docker loads: docker's own format and the OCI layout in one.
//!
//! Layers are written as the tars that they came as, uncompressed, so their digests are their diff ids.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use crate::layer::rebuild;
use crate::manifest::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use crate::store::{Image, Inner, Lease};
use crate::{Digest, ImageError, Reference, Store};

/// Bytes handed to the client at once.
const PIECE: usize = 256 * 1024;
/// Pieces between the store and the client.
const QUEUE: usize = 4;

struct Chosen {
    image: Arc<Image>,
    references: Vec<Reference>,
    /// Keeps the layers while they are read.
    _lease: Lease,
}

impl Store {
    /// The bytes of an archive with the images that `names` mean. A name that is a tag is saved with that tag, a repository's
    /// bare name with all its tags, an id with none. An error item means that the archive broke off.
    ///
    /// Call it within a tokio runtime.
    pub fn save(&self, names: &[String]) -> Result<mpsc::Receiver<io::Result<Bytes>>, ImageError> {
        let mut chosen: Vec<Chosen> = Vec::new();
        for name in names {
            let image = self.get(name)?;
            let reference = tag_of(&image, name);
            match chosen.iter_mut().find(|known| known.image.id == image.id) {
                Some(known) => known.references.extend(reference),
                None => {
                    let lease = self.hold(&image.id)?;
                    chosen.push(Chosen { image, references: reference.into_iter().collect(), _lease: lease });
                }
            }
        }
        let (sink, receiver) = mpsc::channel(QUEUE);
        let inner = Arc::clone(self.inner());
        tokio::task::spawn_blocking(move || {
            let mut output = BufWriter::with_capacity(PIECE, Sink(sink.clone()));
            let outcome = write(&inner, &chosen, &mut output).and_then(|()| output.flush());
            if let Err(error) = outcome {
                let _ = sink.blocking_send(Err(error));
            }
        });
        Ok(receiver)
    }
}

/// The tag by which the image was asked for.
fn tag_of(image: &Image, name: &str) -> Option<Reference> {
    let reference = name.parse::<Reference>().ok()?.or_latest();
    image.repo_tags.contains(&reference.familiar()).then_some(reference)
}

struct Sink(mpsc::Sender<io::Result<Bytes>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(inner: &Inner, chosen: &[Chosen], output: &mut dyn Write) -> io::Result<()> {
    let index = inner.index();
    let (mut docker, mut manifests, mut repositories) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut written = HashSet::new();
    directory(output, "blobs/")?;
    directory(output, "blobs/sha256/")?;
    for Chosen { image, references, .. } in chosen {
        let mut layers = Vec::new();
        for layer in &image.layers {
            let size = index.layers.get(&layer.diff_id).map_or(0, |record| record.tar_size);
            if written.insert(layer.diff_id) {
                header(output, &blob_path(&layer.diff_id), size)?;
                let mut check = Checked { output, hasher: sha2::Digest::new(), written: 0 };
                rebuild(&inner.paths.layer(&layer.diff_id), &mut check)?;
                check.finish(&layer.diff_id, size)?;
                pad(output, size)?;
            }
            layers.push(json!({"mediaType": OCI_LAYER, "digest": layer.diff_id, "size": size}));
        }
        let config = json!({"mediaType": OCI_CONFIG, "digest": image.id, "size": image.raw_config.len()});
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        let manifest = manifest.to_string().into_bytes();
        let digest = Digest::of(&manifest);
        for (name, content) in [(image.id.0, image.raw_config.as_ref()), (digest, manifest.as_slice())] {
            if written.insert(name) {
                file(output, &blob_path(&name), content)?;
            }
        }
        let descriptor = json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": manifest.len()});
        if references.is_empty() {
            manifests.push(descriptor.clone());
        }
        for reference in references {
            let mut named = descriptor.clone();
            named["annotations"] = json!({
                "io.containerd.image.name": reference.to_string(),
                "org.opencontainers.image.ref.name": reference.tag(),
            });
            manifests.push(named);
            let tags: &mut BTreeMap<String, String> =
                repositories.entry(reference.familiar_name()).or_default();
            let top = image.layers.last().map(|layer| layer.diff_id.hex()).unwrap_or_default();
            tags.insert(reference.tag().unwrap_or_default().to_owned(), top);
        }
        docker.push(json!({
            "Config": blob_path(&image.id.0),
            "RepoTags": references.iter().map(Reference::familiar).collect::<Vec<_>>(),
            "Layers": image.layers.iter().map(|layer| blob_path(&layer.diff_id)).collect::<Vec<_>>(),
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    file(output, "index.json", index.to_string().as_bytes())?;
    file(output, "manifest.json", json!(docker).to_string().as_bytes())?;
    file(output, "oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#)?;
    if !repositories.is_empty() {
        file(output, "repositories", json!(repositories).to_string().as_bytes())?;
    }
    output.write_all(&[0; 1024])
}

/// Passes a layer on and makes sure that it is the one that was asked for.
struct Checked<'a> {
    output: &'a mut dyn Write,
    hasher: sha2::Sha256,
    written: u64,
}

impl Checked<'_> {
    fn finish(self, expected: &Digest, size: u64) -> io::Result<()> {
        let actual = Digest::from_hasher(self.hasher);
        if actual == *expected && self.written == size {
            return Ok(());
        }
        let what = format!("layer {expected} was changed on disk: it is {actual} now");
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write_all(bytes)?;
        sha2::Digest::update(&mut self.hasher, bytes);
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn directory(output: &mut dyn Write, path: &str) -> io::Result<()> {
    entry(output, path, tar::EntryType::Directory, 0o755, 0)
}

fn header(output: &mut dyn Write, path: &str, size: u64) -> io::Result<()> {
    entry(output, path, tar::EntryType::Regular, 0o644, size)
}

/// Always the same bytes for the same image: no clock, no owner.
fn entry(output: &mut dyn Write, path: &str, kind: tar::EntryType, mode: u32, size: u64) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    output.write_all(header.as_bytes())
}

fn file(output: &mut dyn Write, path: &str, content: &[u8]) -> io::Result<()> {
    header(output, path, content.len() as u64)?;
    output.write_all(content)?;
    pad(output, content.len() as u64)
}

fn pad(output: &mut dyn Write, size: u64) -> io::Result<()> {
    let padding = size.wrapping_neg() % 512;
    output.write_all(&[0; 512][..usize::try_from(padding).unwrap_or(0)])
}
