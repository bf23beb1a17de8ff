//! Connecting containers to networks and disconnecting them: asked of the network, done by the container's task.

use super::Networks;
use super::request::{ConnectNetwork, DisconnectNetwork};
use crate::containers::container::Command;
use crate::error::{Kind, Result};

impl Networks {
    /// `POST /networks/{name}/connect`
    pub async fn connect(&self, name: &str, request: ConnectNetwork) -> Result<()> {
        let network = self.find(name)?;
        let container = self.engine.inner().registry.get(&request.container)?;
        let settings = Box::new(request.endpoint_config);
        container.ask(|reply| Command::Connect { network, settings, reply }).await
    }

    /// `POST /networks/{name}/disconnect`
    pub async fn disconnect(&self, name: &str, request: DisconnectNetwork) -> Result<()> {
        let network = self.find(name)?;
        let container = match self.engine.inner().registry.get(&request.container) {
            // A container that is gone has left no endpoint behind.
            Err(error) if request.force && error.kind == Kind::NotFound => return Ok(()),
            found => found?,
        };
        container.ask(|reply| Command::Disconnect { network, reply }).await
    }
}
