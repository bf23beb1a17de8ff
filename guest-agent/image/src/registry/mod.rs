//! Images on the wire: a client of the distribution API.

mod answer;
mod auth;
mod client;
mod connect;
mod dial;
mod download;
mod fetch;
mod login;
mod proxy;
mod search;
mod settings;
mod token;
mod upload;
mod url;
mod verify;

pub use dial::{Dial, Stream, TcpDial};
pub use login::LoggedIn;
pub use proxy::Proxies;
pub use search::SearchResult;
pub use settings::{ClientCertificate, Credentials, HostCertificates, RegistryConfig};

pub(crate) use client::Session;
pub(crate) use fetch::{RawManifest, direct, is_about_the_way, reachable, sessions};
pub(crate) use upload::{Begun, CHUNK};
