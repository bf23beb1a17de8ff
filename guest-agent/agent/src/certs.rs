//! Certificates for registries, from the folders where `docker` users put them: `certs.d/HOST[:PORT]/`.
//!
//! As dockerd reads it: every `*.crt` is an authority that is trusted for that host; `NAME.cert` with `NAME.key` is what
//! is shown to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use image::{ClientCertificate, HostCertificates};

/// Where dockerd looks.
pub(crate) const FOLDER: &str = "/etc/docker/certs.d";

/// Reads several folders; a later one's hosts win.
pub(crate) fn read_all(folders: &[&Path]) -> BTreeMap<String, HostCertificates> {
    folders.iter().flat_map(|folder| read(folder)).collect()
}

/// Reads every host's folder. What cannot be read is logged: a registry that needs it will fail with its name.
fn read(folder: &Path) -> BTreeMap<String, HostCertificates> {
    let hosts = sorted(folder).into_iter().filter(|path| path.is_dir());
    hosts.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), host(&path)))).collect()
}

fn host(folder: &Path) -> HostCertificates {
    let mut found = HostCertificates::default();
    for path in sorted(folder) {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => {
                found.authorities.extend(content(&path).unwrap_or_default());
                found.authorities.push(b'\n');
            }
            Some("cert") => {
                if let (Some(chain), Some(key)) = (content(&path), content(&path.with_extension("key"))) {
                    found.client = Some(ClientCertificate { chain, key });
                }
            }
            _ => {}
        }
    }
    found
}

fn content(path: &Path) -> Option<Vec<u8>> {
    fs::read(path).inspect_err(|error| tracing::warn!(%error, "cannot read `{}`", path.display())).ok()
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_and_client_certificates_are_read_by_host() {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join("registry.example:5000");
        fs::create_dir(&host).unwrap();
        for (name, text) in
            [("ca.crt", "CA"), ("client.cert", "CHAIN"), ("client.key", "KEY"), ("lone.cert", "X")]
        {
            fs::write(host.join(name), text).unwrap();
        }
        let found = read(folder.path());
        let certificates = &found["registry.example:5000"];
        assert_eq!(certificates.authorities, b"CA\n");
        assert_eq!(certificates.client.as_ref().unwrap().key, b"KEY");
        assert!(read(Path::new("/nowhere")).is_empty());
    }
}
