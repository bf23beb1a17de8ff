//! The opening messages of fabric connections: out of the VM, into a container, and publishing a port.

use std::io;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// What a connection speaks below the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A stream of bytes.
    Tcp,
    /// Datagrams, as [`send_datagram`](crate::send_datagram) sends them.
    Udp,
}

/// First on [`EGRESS`](crate::ports::EGRESS): where the guest wants to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressRequest {
    /// A name, which the host resolves, or an IP address as text.
    pub host: String,
    /// The port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Transport,
}

/// The host's answer to an [`EgressRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EgressReply {
    /// The bytes of the connection follow.
    Connected {
        /// The address that the host's socket got.
        local: SocketAddr,
    },
    /// There is no connection; the stream ends here.
    Failed {
        /// What a program in the guest should see.
        kind: DialFailure,
        /// What a person should read.
        message: String,
    },
}

/// First on [`PUBLISHED`](crate::ports::PUBLISHED): the container address that a client of the host wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialRequest {
    /// Address and port of the container.
    pub target: SocketAddr,
    /// TCP or UDP.
    pub protocol: Transport,
}

/// The guest's answer to a [`DialRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialed {
    /// The bytes of the connection follow.
    Connected,
    /// There is no connection; the stream ends here.
    Failed {
        /// What the client should see.
        kind: DialFailure,
        /// What a person should read.
        message: String,
    },
}

/// First on [`PUBLISH`](crate::ports::PUBLISH): a port that the host should listen on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishRequest {
    /// The host's address to bind; none means all of them.
    pub host_ip: Option<IpAddr>,
    /// The host's port; 0 means any free one.
    pub host_port: u16,
    /// TCP or UDP.
    pub protocol: Transport,
    /// The container's address, which the host sends back in a [`DialRequest`].
    pub target: SocketAddr,
}

/// The host's answer to a [`PublishRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PublishReply {
    /// The host listens until this connection closes.
    Published {
        /// The addresses that it listens on.
        addresses: Vec<SocketAddr>,
    },
    /// The host does not listen.
    Refused {
        /// Why, in words for the person who asked for the port.
        message: String,
    },
}

/// Why a connection was not made, as far as the other side can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DialFailure {
    /// Nobody listens there.
    Refused,
    /// There is no route to that address.
    Unreachable,
    /// No answer came in time.
    TimedOut,
    /// The name does not exist.
    NotFound,
    /// A rule forbids it.
    Denied,
    /// Anything else; the message says what.
    Other,
}

impl From<io::ErrorKind> for DialFailure {
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::ConnectionRefused => DialFailure::Refused,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable => DialFailure::Unreachable,
            io::ErrorKind::TimedOut => DialFailure::TimedOut,
            io::ErrorKind::NotFound => DialFailure::NotFound,
            io::ErrorKind::PermissionDenied => DialFailure::Denied,
            _ => DialFailure::Other,
        }
    }
}

impl From<DialFailure> for io::ErrorKind {
    fn from(failure: DialFailure) -> Self {
        match failure {
            DialFailure::Refused => io::ErrorKind::ConnectionRefused,
            DialFailure::Unreachable => io::ErrorKind::HostUnreachable,
            DialFailure::TimedOut => io::ErrorKind::TimedOut,
            DialFailure::NotFound => io::ErrorKind::NotFound,
            DialFailure::Denied => io::ErrorKind::PermissionDenied,
            DialFailure::Other => io::ErrorKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_way_through_an_error_kind() {
        for failure in [
            DialFailure::Refused,
            DialFailure::Unreachable,
            DialFailure::TimedOut,
            DialFailure::NotFound,
            DialFailure::Denied,
            DialFailure::Other,
        ] {
            assert_eq!(DialFailure::from(io::ErrorKind::from(failure)), failure);
        }
    }

    #[test]
    fn an_egress_request_is_readable_json() {
        let request = EgressRequest { host: "example.org".into(), port: 443, protocol: Transport::Tcp };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"host":"example.org","port":443,"protocol":"tcp"}"#);
    }
}
