//! What can go wrong with networks, in dockerd's words where clients match them.

use std::io;
use std::net::IpAddr;

use crate::publish::PublishError;
use crate::spec::EndpointId;
use crate::subnet::Subnet;

/// The crate's result.
pub type Result<T> = std::result::Result<T, NetworkError>;

/// Why a network, an endpoint or a port could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused; `operation` says what was tried, the source what it said.
    #[error("cannot {operation}")]
    Kernel {
        /// What was tried: "create bridge `docker0`".
        operation: String,
        /// What the kernel said, with its own text where it gave one.
        source: io::Error,
    },
    /// No network of this id exists here.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// No endpoint of this key exists here.
    #[error("endpoint {0} not found")]
    NoSuchEndpoint(EndpointId),
    /// A network of this id exists already.
    #[error("network with id {0} already exists")]
    NetworkExists(String),
    /// The network still has members.
    #[error("error while removing network: network {name} has active endpoints")]
    NetworkInUse {
        /// The network's name.
        name: String,
    },
    /// The subnet clashes with one of our networks.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlaps,
    /// Every subnet of every pool is taken.
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    /// Every address of the network is taken.
    #[error("no available IPv4 addresses on this network's address pools: {name} ({id})")]
    AddressesExhausted {
        /// The network's name.
        name: String,
        /// Its id.
        id: String,
    },
    /// Another endpoint has the address.
    #[error("Address already in use")]
    AddressInUse(IpAddr),
    /// The address is in none of the network's subnets.
    #[error("invalid address {address}: It does not belong to any of this network's subnets")]
    AddressOutside {
        /// The address asked for.
        address: IpAddr,
    },
    /// The subnet cannot be a network of containers.
    #[error("invalid subnet {subnet}: {reason}")]
    UnusableSubnet {
        /// The subnet.
        subnet: Subnet,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A link name is too long or has characters that the kernel refuses.
    #[error("invalid interface name `{0}`")]
    InvalidLinkName(String),
    /// Something else has the bridge's name.
    #[error("link `{0}` exists and is no bridge")]
    NotABridge(String),
    /// A port could not be published.
    #[error("driver failed programming external connectivity on endpoint {name} ({endpoint}): {source}")]
    Publish {
        /// The container's name.
        name: String,
        /// The endpoint.
        endpoint: EndpointId,
        /// Why; part of the message, as dockerd prints one sentence.
        source: Box<PublishError>,
    },
    /// Part of a tear-down failed; everything else was done.
    #[error("{} of several clean-up steps failed, first: {}", .0.len(), .0.first().map(ToString::to_string).unwrap_or_default())]
    TearDown(Vec<NetworkError>),
}

impl NetworkError {
    /// Nothing for no failure, the one for one, [`NetworkError::TearDown`] for more.
    pub(crate) fn all(mut failures: Vec<NetworkError>) -> Result<()> {
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(NetworkError::TearDown(failures)),
        }
    }
}

/// A refusal of the kernel, with what was tried.
pub(crate) fn kernel(operation: impl Into<String>, error: sys::netlink::Error) -> NetworkError {
    NetworkError::Kernel { operation: operation.into(), source: error.into() }
}
