//! Images on the wire: a client of the distribution API.

mod auth;
mod client;
mod connect;
mod dial;
mod fetch;
mod settings;
mod verify;

pub use dial::{Dial, Stream, TcpDial};
pub use settings::{ClientCertificate, Credentials, HostCertificates, RegistryConfig};

pub(crate) use client::Session;
pub(crate) use fetch::{RawManifest, is_about_the_way, sessions};
