//! What can go wrong with images, with the words that docker's clients know.
//!
//! A message never repeats its source: [`ImageError::sentence`] joins the chain into what a person is told.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use crate::layer::PackError;
use crate::{Digest, ImageId, InvalidDigest, InvalidPlatform, InvalidReference, Platform};

/// What kind of answer an error deserves; the status code is decided from it, once, at the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such image, tag, repository or platform.
    NotFound,
    /// The registry wants other credentials.
    Unauthorized,
    /// The request names something that cannot be.
    InvalidParameter,
    /// It exists or is in use.
    Conflict,
    /// The registry does not answer, answers with a failure, or too slowly.
    Unavailable,
    /// Content is not what its digest, size or format promised.
    Corrupt,
    /// A format that this engine does not read.
    NotImplemented,
    /// The disk, the database or the engine failed.
    System,
}

/// Why an operation on images failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image has this name or id.
    #[error("No such image: {name}")]
    NoSuchImage {
        /// As the client will recognise it.
        name: String,
    },
    /// A short id that several images begin with.
    #[error("multiple IDs found with provided prefix: {prefix}")]
    AmbiguousId {
        /// As given.
        prefix: String,
    },
    /// A name that cannot be.
    #[error(transparent)]
    InvalidReference(#[from] InvalidReference),
    /// A digest that cannot be.
    #[error(transparent)]
    InvalidDigest(#[from] InvalidDigest),
    /// A platform that cannot be.
    #[error(transparent)]
    InvalidPlatform(#[from] InvalidPlatform),
    /// Nothing to push.
    #[error("{message}")]
    NotTagged {
        /// Which tag is missing.
        message: String,
    },
    /// A request that cannot be carried out as it stands.
    #[error("{message}")]
    InvalidRequest {
        /// What to change.
        message: String,
    },
    /// The image is in use, or has several names.
    #[error("conflict: {message}")]
    Conflict {
        /// Whose use, and whether force helps.
        message: String,
    },
    /// The registry hides or lacks the repository.
    #[error("pull access denied for {name}, repository does not exist or may require 'docker login'")]
    PullAccessDenied {
        /// Familiar name of the repository.
        name: String,
        /// The registry's answer.
        source: RegistryError,
    },
    /// The registry has no such repository.
    #[error("repository {name} not found")]
    RepositoryNotFound {
        /// Familiar name of the repository.
        name: String,
        /// The registry's answer.
        source: RegistryError,
    },
    /// The repository has no such tag or digest.
    #[error("manifest for {reference} not found")]
    ManifestNotFound {
        /// Familiar spelling.
        reference: String,
        /// The registry's answer.
        source: RegistryError,
    },
    /// Anything else that a registry did.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An index without an image for the platform.
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoMatchingManifest {
        /// The platform that was wanted.
        platform: Platform,
    },
    /// Nothing for the platform that was asked for.
    #[error("{message}")]
    PlatformNotFound {
        /// Which, and where it was looked for.
        message: String,
    },
    /// One image, for another platform than the one asked for.
    #[error(
        "image with reference {reference} was found but its platform ({actual}) does not match the specified platform ({wanted})"
    )]
    PlatformMismatch {
        /// Familiar spelling.
        reference: String,
        /// The platform that was asked for.
        wanted: Box<Platform>,
        /// The image's.
        actual: Box<Platform>,
    },
    /// A manifest of a kind that is not read here.
    #[error("{what}")]
    Unsupported {
        /// Which kind, and what to do about it.
        what: String,
    },
    /// Content that contradicts its description.
    #[error("{what}")]
    Corrupt {
        /// Which content, and how.
        what: String,
    },
    /// Content with another digest than promised.
    #[error("{what} verification failed for digest {expected}: it has {actual}")]
    DigestMismatch {
        /// `layer`, `config`, `manifest` or `diff id`.
        what: &'static str,
        /// As promised.
        expected: Digest,
        /// As received.
        actual: Digest,
    },
    /// A layer could not be unpacked.
    #[error("failed to register layer")]
    Unpack(#[from] UnpackError),
    /// A tree could not be made a layer.
    #[error("cannot make a layer")]
    Pack(#[from] PackError),
    /// An image archive is not one.
    #[error("invalid image archive: {what}")]
    Archive {
        /// What is missing or wrong.
        what: String,
    },
    /// A layer that several pulls waited for failed for all of them.
    #[error(transparent)]
    Shared(std::sync::Arc<ImageError>),
    /// The operation was given up because nobody waits for it any more.
    #[error("context canceled")]
    Cancelled,
    /// An image still has a row in the database, and its content is gone.
    #[error("image {image} is damaged: pull or load it again")]
    Damaged {
        /// Which.
        image: ImageId,
    },
    /// A file of the store could not be read or written.
    #[error("cannot {doing} `{}`", path.display())]
    File {
        /// `write`, `rename`, …
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The client's stream broke off.
    #[error("cannot read the image archive")]
    ReadArchive(#[source] io::Error),
    /// The database failed.
    #[error("cannot {doing} in the image database")]
    Database {
        /// `read`, `commit`, …
        doing: &'static str,
        /// Why.
        source: Box<redb::Error>,
    },
    /// A background task died.
    #[error("image task failed: {message}")]
    Task {
        /// As the runtime says it.
        message: String,
    },
}

/// What a registry, or the way to it, did wrong.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// An error in the distribution specification's form.
    #[error("{}: {message}", code.to_ascii_lowercase().replace('_', " "))]
    Answer {
        /// HTTP status.
        status: u16,
        /// `MANIFEST_UNKNOWN`, `DENIED`, …
        code: String,
        /// The registry's own words.
        message: String,
    },
    /// A status without a body that explains it.
    #[error("{method} \"{url}\": unexpected status from registry: {status}")]
    Status {
        /// Request method.
        method: &'static str,
        /// Where.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// No credentials, or wrong ones.
    #[error("unauthorized: {message}")]
    Unauthorized {
        /// The registry's own words.
        message: String,
    },
    /// Too many requests, even after waiting.
    #[error("toomanyrequests: {message}")]
    RateLimited {
        /// The registry's own words.
        message: String,
    },
    /// No connection.
    #[error("Get \"{url}\": {message}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        message: String,
    },
    /// No TLS session.
    #[error("Get \"{url}\": tls: {message}")]
    Tls {
        /// Where.
        url: String,
        /// Why.
        message: String,
    },
    /// The connection broke, or spoke no HTTP.
    #[error("Get \"{url}\": {message}")]
    Broken {
        /// Where.
        url: String,
        /// How.
        message: String,
    },
    /// Credentials that the registry does not take.
    #[error("login attempt to {url} failed with status: {status} {reason}")]
    LoginRefused {
        /// Where.
        url: String,
        /// HTTP status.
        status: u16,
        /// The status in words.
        reason: &'static str,
    },
    /// The registry stopped answering.
    #[error(
        "Get \"{url}\": registry did not answer for {seconds} s: request canceled (Client.Timeout exceeded)"
    )]
    TimedOut {
        /// Where.
        url: String,
        /// For how long.
        seconds: u64,
    },
    /// An answer that makes no sense, or is too long.
    #[error("invalid answer from registry at \"{url}\": {what}")]
    Malformed {
        /// Where.
        url: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Why a layer's tar was refused, or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Not a tar archive.
    #[error("archive/tar: invalid tar header: {0}")]
    Header(&'static str),
    /// It ends in the middle.
    #[error("unexpected EOF")]
    Truncated,
    /// The compressed stream is broken.
    #[error("cannot decompress layer")]
    Decompress(#[source] io::Error),
    /// A name that leads outside.
    #[error("invalid tar: `{name}` is outside of the layer")]
    Escape {
        /// The entry's name, or its link target.
        name: String,
    },
    /// An entry type that a file system has no counterpart for.
    #[error("unhandled tar header type {kind} of `{name}`")]
    UnknownType {
        /// The type byte.
        kind: u8,
        /// The entry's name.
        name: String,
    },
    /// Device nodes are not allowed here.
    #[error("device node `{name}` is not allowed in a layer here")]
    DeviceRefused {
        /// The entry's name.
        name: String,
    },
    /// The layer asks for more than a limit admits.
    #[error("layer exceeds the limit of {limit} {unit}")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// `bytes`, `entries`, …
        unit: &'static str,
    },
    /// Little space is left, and the rest is kept for the engine and its containers.
    #[error("no space left on device")]
    NoSpace,
    /// The file system refused.
    #[error("cannot {doing} `{name}`")]
    Entry {
        /// `create`, `link`, …
        doing: &'static str,
        /// The entry's name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl UnpackError {
    /// Whether other bytes would have been unpacked: then a wrong digest is the better explanation.
    pub(crate) fn is_about_content(&self) -> bool {
        matches!(
            self,
            Self::Header(_)
                | Self::Truncated
                | Self::Decompress(_)
                | Self::Escape { .. }
                | Self::UnknownType { .. }
        )
    }
}

impl ImageError {
    /// The kind of answer that this error deserves.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchImage { .. }
            | Self::NotTagged { .. }
            | Self::PlatformNotFound { .. }
            | Self::PullAccessDenied { .. }
            | Self::RepositoryNotFound { .. }
            | Self::ManifestNotFound { .. }
            | Self::NoMatchingManifest { .. }
            | Self::PlatformMismatch { .. } => ErrorKind::NotFound,
            Self::AmbiguousId { .. }
            | Self::InvalidReference(_)
            | Self::InvalidDigest(_)
            | Self::InvalidPlatform(_)
            | Self::InvalidRequest { .. }
            | Self::Pack(PackError::Reserved { .. } | PackError::TooDeep)
            | Self::Archive { .. } => ErrorKind::InvalidParameter,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Registry(
                RegistryError::Unauthorized { .. } | RegistryError::LoginRefused { status: 401, .. },
            ) => ErrorKind::Unauthorized,
            Self::Registry(RegistryError::Malformed { .. }) => ErrorKind::Corrupt,
            Self::Registry(_) | Self::Cancelled => ErrorKind::Unavailable,
            Self::Shared(error) => error.kind(),
            Self::Unsupported { .. } => ErrorKind::NotImplemented,
            Self::Unpack(UnpackError::Entry { .. } | UnpackError::NoSpace) => ErrorKind::System,
            Self::Corrupt { .. } | Self::DigestMismatch { .. } | Self::Unpack(_) | Self::Damaged { .. } => {
                ErrorKind::Corrupt
            }
            Self::File { .. }
            | Self::Pack(_)
            | Self::ReadArchive(_)
            | Self::Database { .. }
            | Self::Task { .. } => ErrorKind::System,
        }
    }

    /// The message and its causes, joined as dockerd joins them.
    pub fn sentence(&self) -> String {
        let mut sentence = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            sentence.push_str(": ");
            sentence.push_str(&error.to_string());
            cause = error.source();
        }
        sentence
    }

    pub(crate) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> ImageError {
        let path = path.into();
        move |source| ImageError::File { doing, path, source }
    }

    pub(crate) fn database<E: Into<redb::Error>>(doing: &'static str) -> impl FnOnce(E) -> ImageError {
        move |source| ImageError::Database { doing, source: Box::new(source.into()) }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> ImageError {
        ImageError::Corrupt { what: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_pull_reads_as_dockerd_says_it() {
        let error = ImageError::PullAccessDenied {
            name: "secret".into(),
            source: RegistryError::Answer {
                status: 401,
                code: "DENIED".into(),
                message: "requested access to the resource is denied".into(),
            },
        };
        assert_eq!(
            error.sentence(),
            "pull access denied for secret, repository does not exist or may require 'docker login': \
             denied: requested access to the resource is denied"
        );
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
