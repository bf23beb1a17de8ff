//! Networks of containers: bridges, addresses, names and published ports. Knows no container, only its key.
//!
//! A network is one Linux bridge; an endpoint is a veth pair between it and a network namespace. Everything
//! the packet filter does stands in one nftables table of ours, whose rules never change: networks, subnets
//! and published ports are elements of its sets and maps, so the thousandth port costs what the first did.
//!
//! What exists is derived from the engine's records: [`Networks::recover`] makes the kernel agree with
//! them. Nothing here remembers anything over a restart.

mod dns;
mod endpoints;
pub mod error;
mod filter;
pub mod ipam;
pub mod names;
mod native;
mod networks;
pub mod publish;
mod reaper;
mod sandbox;
pub mod spec;
pub mod subnet;

pub use dns::{ResolverSpec, Upstream};
pub use error::{NetworkError, Result};
pub use networks::Networks;
pub use publish::{BoxFuture, PublishError, PublishSpec, PublishedPort, Publisher, Publishing};
pub use spec::{
    AddressPool, AttachSpec, Endpoint, EndpointId, EndpointRecord, InterfaceAddress, MacAddress,
    NetworkConfig, NetworkRecord, NetworkSpec, PortBinding, PortSpec, Protocol, RedirectSpec, SubnetRecord,
    SubnetSpec,
};
pub use subnet::Subnet;
