//! Published ports: the door through which a port of the outside leads to a container.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use crate::spec::Protocol;

/// A future that can be named in a trait.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who opens published ports.
#[derive(Clone)]
pub enum Publishing {
    /// We do, on this machine.
    Native,
    /// Somebody else does, on another machine: in the VM, the host.
    Through(Arc<dyn Publisher>),
}

/// Opens ports somewhere.
pub trait Publisher: Send + Sync {
    /// Opens a port, or says in dockerd's words why not. It stays open until the value is dropped.
    fn publish<'a>(
        &'a self,
        spec: &'a PublishSpec,
    ) -> BoxFuture<'a, Result<Box<dyn PublishedPort>, PublishError>>;
}

/// An open port; dropping it closes it.
pub trait PublishedPort: Send + Sync {
    /// Where it listens: one address, or one per family.
    fn addresses(&self) -> &[SocketAddr];
}

/// A port to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishSpec {
    /// The address to listen on; `None`: all, IPv4 and IPv6 under one port number.
    pub host_ip: Option<IpAddr>,
    /// The port; 0: any.
    pub host_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where it leads.
    pub target: SocketAddr,
}

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// One of this engine's own endpoints has it.
    #[error("Bind for {address} failed: port is already allocated")]
    Allocated {
        /// The address and port.
        address: SocketAddr,
    },
    /// The system refuses it; a busy port says `address already in use`.
    #[error("failed to bind host port for {address}:{target}/{protocol}: {}", reason(.source))]
    Bind {
        /// The address and port.
        address: SocketAddr,
        /// Where it would have led.
        target: SocketAddr,
        /// TCP or UDP.
        protocol: Protocol,
        /// What the system says; part of the message, as dockerd prints one sentence.
        source: io::Error,
    },
    /// The rule that leads to the container could not be made.
    #[error("cannot forward {address} to {target}")]
    Forward {
        /// The address and port.
        address: SocketAddr,
        /// Where it would have led.
        target: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// Whoever opens ports elsewhere says no, in its own words.
    #[error("{message}")]
    Refused {
        /// Its words.
        message: String,
    },
}

/// The system's words as Go programs print them: lower case, no error number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        _ => error.to_string(),
    }
}
