//! What is fetched: manifests, small blobs whole, layers as streams that survive broken connections.

use std::sync::Arc;

use http::StatusCode;
use http::header::CONTENT_TYPE;
use tokio::sync::mpsc;

use super::Credentials;
use super::client::{Ask, Session, malformed};
use super::settings::RegistryConfig;
use crate::layer::Arrival;
use crate::manifest::{ACCEPT_MANIFESTS, Descriptor};
use crate::{Digest, ImageError, Reference, RegistryError};

/// The registry's own limit on manifests.
const MAX_MANIFEST: usize = 4 << 20;
const DEFAULT_REGISTRY: &str = "https://registry-1.docker.io";

/// A manifest or index as it came.
pub(crate) struct RawManifest {
    pub(crate) raw: Vec<u8>,
    pub(crate) media_type: Option<String>,
    pub(crate) digest: Digest,
}

/// Where a reference may be fetched from, in the order to try.
pub(crate) fn sessions(
    reference: &Reference,
    credentials: Option<&Credentials>,
    settings: &Arc<RegistryConfig>,
) -> Vec<Session> {
    let domain = reference.domain();
    let mut sessions = Vec::new();
    if domain == "docker.io" {
        // A mirror is not the registry that the credentials are for.
        sessions.extend(settings.mirrors.iter().map(|mirror| {
            let base = mirror.trim_end_matches('/').to_owned();
            Session::new(Arc::clone(settings), base, reference.path().to_owned(), None)
        }));
    }
    sessions.extend(direct(reference, credentials, settings));
    sessions
}

/// The registry itself, by TLS and then, where that is allowed, without.
pub(crate) fn direct(
    reference: &Reference,
    credentials: Option<&Credentials>,
    settings: &Arc<RegistryConfig>,
) -> Vec<Session> {
    at(reference.domain(), reference.path(), credentials, settings)
}

/// As [`direct`], for a host and a repository there, which may be none.
pub(crate) fn at(
    domain: &str,
    repository: &str,
    credentials: Option<&Credentials>,
    settings: &Arc<RegistryConfig>,
) -> Vec<Session> {
    let session =
        |base: String| Session::new(Arc::clone(settings), base, repository.to_owned(), credentials.cloned());
    if domain == "docker.io" {
        return vec![session(DEFAULT_REGISTRY.to_owned())];
    }
    let mut sessions = vec![session(format!("https://{domain}"))];
    if settings.is_insecure(domain) {
        sessions.push(session(format!("http://{domain}")));
    }
    sessions
}

/// The first of these that speaks HTTP at all, whatever it answers.
pub(crate) async fn reachable(sessions: Vec<Session>) -> Result<Session, RegistryError> {
    let mut problem = None;
    for session in sessions {
        let ask = Ask { path: "/v2/", ..Ask::default() };
        match session.follow(&ask).await {
            Ok(_) => return Ok(session),
            Err(error) if is_about_the_way(&error) => problem = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(problem.unwrap_or_else(|| malformed("", "no registry to ask")))
}

/// Whether the next session may do better after this error.
pub(crate) fn is_about_the_way(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Tls { .. } | RegistryError::Broken { .. } | RegistryError::Unreachable { .. }
    )
}

impl Session {
    /// A manifest by tag or digest. A digest is checked.
    pub(crate) async fn manifest(
        &self,
        name: &str,
        expected: Option<Digest>,
    ) -> Result<RawManifest, ImageError> {
        let path = format!("/v2/{}/manifests/{name}", self.repository);
        let response =
            self.request(Ask { path: &path, accept: Some(ACCEPT_MANIFESTS), ..Ask::default() }).await?;
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.map(|text| text.split(';').next().unwrap_or(text).trim().to_owned());
        let raw = self.read_all(response, &format!("{}{path}", self.base), MAX_MANIFEST).await?;
        let digest = Digest::of(&raw);
        match expected {
            Some(expected) if expected != digest => {
                Err(ImageError::DigestMismatch { what: "manifest", expected, actual: digest })
            }
            _ => Ok(RawManifest { raw, media_type, digest }),
        }
    }

    /// A small blob, whole and checked.
    pub(crate) async fn blob(
        &self,
        what: &'static str,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, ImageError> {
        let limit = crate::store::MAX_BLOB;
        if descriptor.size > limit {
            return Err(ImageError::corrupt(format!(
                "{what} of {} bytes is larger than {limit} bytes",
                descriptor.size
            )));
        }
        let path = format!("/v2/{}/blobs/{}", self.repository, descriptor.digest);
        let response = self.request(Ask { path: &path, ..Ask::default() }).await?;
        let limit = usize::try_from(descriptor.size).unwrap_or(usize::MAX);
        let raw = self.read_all(response, &format!("{}{path}", self.base), limit).await?;
        let actual = Digest::of(&raw);
        if actual != descriptor.digest {
            return Err(ImageError::DigestMismatch { what, expected: descriptor.digest, actual });
        }
        Ok(raw)
    }

    /// Sends a blob's bytes and then [`Arrival::End`] into `sink`. After a broken connection it goes on where it was.
    pub(crate) async fn stream(
        &self,
        descriptor: &Descriptor,
        sink: &mpsc::Sender<Arrival>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), ImageError> {
        let path = format!("/v2/{}/blobs/{}", self.repository, descriptor.digest);
        let mut received = 0;
        let mut failures = 0;
        let mut wait = self.settings.retry_delay;
        loop {
            let before = received;
            let outcome = self.stream_part(&path, descriptor.size, &mut received, sink, &mut progress).await;
            let problem = match outcome {
                Ok(()) if received == descriptor.size => {
                    return sink.send(Arrival::End).await.map_err(|_| ImageError::Cancelled);
                }
                Ok(()) => RegistryError::Broken {
                    url: format!("{}{path}", self.base),
                    message: format!("unexpected EOF: {received} of {} bytes", descriptor.size),
                },
                Err(ImageError::Registry(
                    problem @ (RegistryError::Broken { .. } | RegistryError::TimedOut { .. }),
                )) => problem,
                Err(error) => return Err(error),
            };
            if received > before {
                failures = 0;
                wait = self.settings.retry_delay;
            }
            failures += 1;
            // A registry that hung twice in the same place will hang again.
            let limit =
                if matches!(problem, RegistryError::TimedOut { .. }) { 1 } else { self.settings.retries };
            if failures > limit {
                return Err(problem.into());
            }
            tracing::debug!(%problem, received, "layer download is resumed");
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    async fn stream_part(
        &self,
        path: &str,
        size: u64,
        received: &mut u64,
        sink: &mpsc::Sender<Arrival>,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), ImageError> {
        let url = format!("{}{path}", self.base);
        let from = (*received > 0).then_some(*received);
        let response = self.request(Ask { path, from, ..Ask::default() }).await?;
        // A server that does not know ranges begins anew: what is known already is passed over.
        let mut skip =
            if from.is_some() && response.status() != StatusCode::PARTIAL_CONTENT { *received } else { 0 };
        let mut body = response.into_body();
        while let Some(mut bytes) = self.next(&mut body, &url).await? {
            if skip > 0 {
                let count = bytes.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
                let _ = bytes.split_to(count);
                skip -= count as u64;
            }
            if bytes.is_empty() {
                continue;
            }
            *received += bytes.len() as u64;
            if *received > size {
                return Err(
                    malformed(&url, &format!("more than the {size} bytes that the manifest says")).into()
                );
            }
            sink.send(Arrival::Data(bytes)).await.map_err(|_| ImageError::Cancelled)?;
            progress(*received);
        }
        Ok(())
    }
}
