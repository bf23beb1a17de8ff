//! What is uploaded: blobs in chunks that survive broken connections, and manifests.

use bytes::Bytes;
use http::header::{LOCATION, RANGE};
use http::{HeaderMap, Method, StatusCode};

use super::client::{Ask, Session, malformed};
use super::url::resolve;
use crate::{Digest, RegistryError};

/// Bytes of one request: held in memory until the registry has them.
pub(crate) const CHUNK: usize = 8 << 20;

/// How an upload began.
pub(crate) enum Begun {
    /// The blob is there already: it was mounted from another repository.
    Mounted,
    /// The blob's bytes go to this address.
    Upload(String),
}

fn is_absent(problem: &RegistryError) -> bool {
    matches!(problem, RegistryError::Status { status: 404, .. } | RegistryError::Answer { status: 404, .. })
}

impl Session {
    /// The size of a blob, if the repository has it.
    pub(crate) async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let path = format!("/v2/{}/blobs/{digest}", self.repository);
        match self.request(Ask { method: Method::HEAD, path: &path, ..Ask::default() }).await {
            Ok(answer) => {
                let length = answer.headers().get(http::header::CONTENT_LENGTH);
                Ok(length.and_then(|length| length.to_str().ok()?.parse().ok()))
            }
            Err(problem) if is_absent(&problem) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Begins an upload, or has the registry take the blob from another of its repositories.
    pub(crate) async fn begin_upload(&self, mount: Option<(&Digest, &str)>) -> Result<Begun, RegistryError> {
        let mut path = format!("/v2/{}/blobs/uploads/", self.repository);
        if let Some((digest, from)) = mount {
            let query = super::auth::encode(&[("mount", &digest.to_string()), ("from", from)]);
            path = format!("{path}?{query}");
        }
        let answer = self.request(Ask { method: Method::POST, path: &path, ..Ask::default() }).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(Begun::Mounted);
        }
        Ok(Begun::Upload(self.location(&self.url(&path), answer.headers())?))
    }

    /// Sends the bytes of a blob from `offset` on, and returns where the next ones go. After a broken connection it asks
    /// how much has arrived and goes on there.
    pub(crate) async fn upload_chunk(
        &self,
        mut location: String,
        mut offset: u64,
        mut bytes: Bytes,
    ) -> Result<String, RegistryError> {
        let mut wait = self.settings.retry_delay;
        let mut failures = 0;
        while !bytes.is_empty() {
            let last = offset + bytes.len() as u64 - 1;
            let ask = Ask {
                method: Method::PATCH,
                path: &location,
                body: bytes.clone(),
                content_type: Some("application/octet-stream"),
                content_range: Some((offset, last)),
                once: true,
                ..Ask::default()
            };
            let problem = match self.request(ask).await {
                Ok(answer) => return self.location(&location, answer.headers()),
                Err(problem) => problem,
            };
            failures += 1;
            if failures > self.settings.retries || !is_about_the_line(&problem) {
                return Err(problem);
            }
            tracing::debug!(%problem, offset, "layer upload is resumed");
            tokio::time::sleep(wait).await;
            wait *= 2;
            let ask = Ask { path: &location, ..Ask::default() };
            let answer = self.request(ask).await?;
            let arrived = arrived(answer.headers());
            location = self.location(&location, answer.headers())?;
            let ahead = arrived.checked_sub(offset).filter(|ahead| *ahead <= bytes.len() as u64);
            // It lost what it had confirmed: the whole blob must be sent again.
            let ahead = ahead.ok_or(problem)?;
            let _ = bytes.split_to(usize::try_from(ahead).unwrap_or(0));
            offset = arrived;
        }
        Ok(location)
    }

    /// Ends an upload: the registry compares what it has with the digest.
    pub(crate) async fn finish_upload(
        &self,
        location: &str,
        digest: &Digest,
        rest: Bytes,
    ) -> Result<(), RegistryError> {
        let separator = if location.contains('?') { '&' } else { '?' };
        let query = super::auth::encode(&[("digest", &digest.to_string())]);
        let path = format!("{location}{separator}{query}");
        let ask = Ask {
            method: Method::PUT,
            path: &path,
            body: rest,
            content_type: Some("application/octet-stream"),
            ..Ask::default()
        };
        self.request(ask).await.map(drop)
    }

    /// Puts a small blob there, unless it is there.
    pub(crate) async fn put_blob(&self, digest: &Digest, content: Bytes) -> Result<(), RegistryError> {
        if self.blob_size(digest).await?.is_some() {
            return Ok(());
        }
        match self.begin_upload(None).await? {
            Begun::Mounted => Ok(()),
            Begun::Upload(location) => self.finish_upload(&location, digest, content).await,
        }
    }

    /// Puts a manifest there, by tag or digest.
    pub(crate) async fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        content: Bytes,
    ) -> Result<(), RegistryError> {
        let path = format!("/v2/{}/manifests/{name}", self.repository);
        let ask = Ask {
            method: Method::PUT,
            path: &path,
            body: content,
            content_type: Some(media_type),
            ..Ask::default()
        };
        self.request(ask).await.map(drop)
    }

    fn location(&self, asked: &str, headers: &HeaderMap) -> Result<String, RegistryError> {
        let found = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let found = found.and_then(|location| resolve(asked, location));
        found.ok_or_else(|| malformed(asked, "an upload without an address"))
    }
}

/// Whether the bytes may have arrived all the same.
fn is_about_the_line(problem: &RegistryError) -> bool {
    match problem {
        RegistryError::Broken { .. } | RegistryError::TimedOut { .. } | RegistryError::Unreachable { .. } => {
            true
        }
        RegistryError::Status { status, .. } | RegistryError::Answer { status, .. } => {
            matches!(status, 408 | 416 | 429 | 500 | 502 | 503 | 504)
        }
        _ => false,
    }
}

/// `Range: 0-99` says that 100 bytes are there; `0-0` is what registries say of none.
fn arrived(headers: &HeaderMap) -> u64 {
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let last = range.trim_start_matches("bytes=").split_once('-').and_then(|(_, last)| last.parse().ok());
    match last {
        None | Some(0_u64) => 0,
        Some(last) => last + 1,
    }
}
