//! Published ports: the host is asked to listen, and listens while the connection is open.

use std::net::SocketAddr;

use network::{BoxFuture, Protocol, PublishError, PublishSpec, PublishedPort, Publisher};
use protocol::{PublishReply, PublishRequest, Transport, ports};

use super::Stream;

/// Publishes on the host.
pub(crate) struct HostPublisher;

/// A port that the host listens on, for as long as this lives.
struct Lease {
    addresses: Vec<SocketAddr>,
    _open: Stream,
}

impl PublishedPort for Lease {
    fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Publisher for HostPublisher {
    fn publish<'a>(
        &'a self,
        spec: &'a PublishSpec,
    ) -> BoxFuture<'a, Result<Box<dyn PublishedPort>, PublishError>> {
        Box::pin(async move {
            let mut stream = super::connect(ports::PUBLISH).await.map_err(refused)?;
            let request = PublishRequest {
                host_ip: spec.host_ip,
                host_port: spec.host_port,
                protocol: match spec.protocol {
                    Protocol::Tcp => Transport::Tcp,
                    Protocol::Udp => Transport::Udp,
                },
                target: spec.target,
            };
            stream.send(&request).await.map_err(refused)?;
            match super::opening(&mut stream).await.map_err(refused)? {
                PublishReply::Published { addresses } => {
                    Ok(Box::new(Lease { addresses, _open: stream }) as Box<dyn PublishedPort>)
                }
                PublishReply::Refused { message } => Err(PublishError::Refused { message }),
            }
        })
    }
}

fn refused(error: std::io::Error) -> PublishError {
    PublishError::Refused { message: format!("the host does not open ports: {error}") }
}
