//! The networks of one engine: who is on which, and the kernel objects that make it so.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::error::{NetworkError, Result};
use crate::spec::{
    AttachSpec, Endpoint, EndpointId, EndpointRecord, NetworkConfig, NetworkRecord, NetworkSpec, PortBinding,
    PortSpec, RedirectSpec,
};

/// The networks of one engine. Cloning gives another handle on the same ones.
///
/// Methods block for some hundred microseconds (netlink); `publish` alone is asynchronous.
#[derive(Clone)]
pub struct Networks(Arc<NetworkConfig>);

impl Networks {
    /// Opens netlink and makes the engine's table in the calling thread's network namespace.
    pub fn new(config: NetworkConfig) -> Result<Networks> {
        Ok(Networks(Arc::new(config)))
    }

    /// Makes a network, or takes over the bridge that an earlier run of this engine left.
    pub fn create(&self, spec: &NetworkSpec) -> Result<NetworkRecord> {
        Err(NetworkError::NoSuchNetwork(spec.id.clone()))
    }

    /// Removes a network without endpoints.
    pub fn remove(&self, id: &str) -> Result<()> {
        Err(NetworkError::NoSuchNetwork(id.to_owned()))
    }

    /// Every network.
    pub fn list(&self) -> Vec<NetworkRecord> {
        Vec::new()
    }

    /// A fresh network namespace in which only loopback is up (network mode `none`).
    pub fn sandbox(&self) -> Result<OwnedFd> {
        Err(NetworkError::NoSuchNetwork("none".to_owned()))
    }

    /// Puts a container on a network.
    pub fn attach(&self, spec: AttachSpec) -> Result<Endpoint> {
        Err(NetworkError::NoSuchNetwork(spec.network))
    }

    /// Publishes ports of an endpoint: all of them or none. `name` is the container's, for the message.
    pub async fn publish(&self, id: &EndpointId, name: &str, ports: &[PortSpec]) -> Result<Vec<PortBinding>> {
        let _ = (name, ports);
        Err(NetworkError::NoSuchEndpoint(id.clone()))
    }

    /// Takes a container off a network; its ports close, its address is free again.
    pub fn detach(&self, id: &EndpointId) -> Result<()> {
        Err(NetworkError::NoSuchEndpoint(id.clone()))
    }

    /// After a restart, when all networks are created: takes over the endpoints that live, drops every link
    /// and forwarding rule of this engine that belongs to none. Then `publish` the live ones' ports anew.
    pub fn recover(&self, live: &[EndpointRecord]) -> Result<()> {
        let _ = live;
        Ok(())
    }

    /// Sends outgoing TCP connections of all containers to a listener on this machine.
    pub fn redirect_egress(&self, spec: &RedirectSpec) -> Result<()> {
        let _ = spec;
        Ok(())
    }

    /// At the engine's clean end: removes every link and the table of this engine.
    pub fn close(&self) -> Result<()> {
        Ok(())
    }
}
