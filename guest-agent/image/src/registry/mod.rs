//! Images on the wire: a client of the distribution API.

mod dial;
mod settings;

pub use dial::{Dial, Stream, TcpDial};
pub use settings::{ClientCertificate, Credentials, HostCertificates, RegistryConfig};
