//! The way out: connections to the outside world are made by the host, with its own sockets.
//!
//! The engine dials through [`HostDial`]. Containers know nothing of it: the kernel redirects their outgoing TCP
//! connections to a listener here, which asks each one where it was going.

use std::io;
use std::net::SocketAddr;

use futures_util::future::BoxFuture;
use protocol::{EgressReply, EgressRequest, Transport, ports};
use tokio::net::{TcpListener, TcpStream};

use super::Stream;

/// The listener's port. Containers cannot reach it under this number: what they send there is redirected too.
pub(crate) const REDIRECT_PORT: u16 = 1026;

/// Dials from the host.
pub(crate) struct HostDial;

impl image::Dial for HostDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn image::Stream>>> {
        Box::pin(async move { Ok(Box::new(dial(host, port).await?) as Box<dyn image::Stream>) })
    }
}

async fn dial(host: &str, port: u16) -> io::Result<Stream> {
    let mut stream = super::connect(ports::EGRESS).await?;
    stream.send(&EgressRequest { host: host.to_owned(), port, protocol: Transport::Tcp }).await?;
    // The host bounds how long connecting may take; its answer says so then.
    match stream.recv().await? {
        EgressReply::Connected { .. } => Ok(stream),
        EgressReply::Failed { kind, message } => Err(io::Error::new(kind.into(), message)),
    }
}

/// Binds the listener that containers' connections are redirected to.
pub(crate) async fn bind() -> io::Result<TcpListener> {
    TcpListener::bind(("0.0.0.0", REDIRECT_PORT)).await
}

/// Serves redirected connections.
pub(crate) async fn serve(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => {
                tokio::spawn(redirect(tcp));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of a container");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn redirect(tcp: TcpStream) {
    let reached = match original_destination(&tcp) {
        // Nobody was redirected: the connection was made to the listener itself, which leads nowhere.
        Ok(destination) if tcp.local_addr().is_ok_and(|local| local == destination) => return,
        Ok(destination) => dial(&destination.ip().to_string(), destination.port()).await,
        Err(error) => Err(error),
    };
    match reached {
        Ok(stream) => {
            let _ = tcp.set_nodelay(true);
            super::carry(tcp, stream).await;
        }
        Err(error) => {
            tracing::debug!(%error, "a container's connection was not made");
            // The container's connection stands already; breaking it is as near to a refusal as can be.
            let _ = rustix::net::sockopt::set_socket_linger(&tcp, Some(std::time::Duration::ZERO));
        }
    }
}

fn original_destination(tcp: &TcpStream) -> io::Result<SocketAddr> {
    Ok(SocketAddr::V4(rustix::net::sockopt::ip_original_dst(tcp)?))
}
