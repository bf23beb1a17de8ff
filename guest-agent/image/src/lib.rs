//! OCI and docker images: at rest in a [`Store`], on the wire from a registry, in archives.
//!
//! Knows nothing of containers, of HTTP servers, or of docker's API: it returns values and streams of events, and
//! [`ImageError`]s whose [`ImageError::sentence`] is worded as docker's clients expect.

mod digest;
mod platform;
mod reference;

mod config;
mod error;
mod manifest;
mod progress;

pub mod layer;
pub mod registry;
mod store;

mod distribution;
mod load;
mod pull;
mod push;
mod save;

pub use config::{ContainerConfig, HealthConfig, History, ImageConfig, RootFs};
pub use digest::{Digest, ImageId, InvalidDigest};
pub use distribution::Distribution;
pub use error::{ErrorKind, ImageError, RegistryError, UnpackError};
pub use platform::{InvalidPlatform, Platform};
pub use progress::{LayerStage, LoadEvent, Progress, PullEvent, Pulled};
pub use pull::PullRequest;
pub use push::{PushEvent, PushRequest};
pub use reference::{InvalidReference, Reference};
pub use registry::{
    ClientCertificate, Credentials, Dial, HostCertificates, LoggedIn, Proxies, RegistryConfig, SearchResult,
    Stream, TcpDial,
};
pub use store::{
    HeldLayer, HistoryStep, Image, InUse, LayerInfo, Lease, Pruned, Removed, Store, StoreConfig,
};
