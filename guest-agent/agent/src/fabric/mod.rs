//! The guest's ends of what crosses the VM's wall. Only the host is let in, and only it is talked to.

pub(crate) mod control;
pub(crate) mod dns;
pub(crate) mod egress;
pub(crate) mod publish;
pub(crate) mod published;

use std::future::Future;
use std::io;
use std::time::Duration;

use protocol::{FramedStream, HOST_CID};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};

/// A framed connection over the wall.
pub(crate) type Stream = FramedStream<VsockStream>;

/// How long the other side may take to say its part of an opening.
const OPENING: Duration = Duration::from_secs(10);
/// How long a connection whose two directions have ended waits for the host to close it.
const CLOSING: Duration = Duration::from_secs(2);
const BUFFER: usize = protocol::MAX_PAYLOAD;

/// Connects to a port of the host.
pub(crate) async fn connect(port: u32) -> io::Result<Stream> {
    let stream = VsockStream::connect(VsockAddr::new(HOST_CID, port)).await?;
    Ok(FramedStream::new(stream))
}

/// Binds a port for the host. Connections wait until [`accept`] is called on it.
pub(crate) fn bind(port: u32) -> io::Result<VsockListener> {
    VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))
}

/// Serves the host's connections, each in a task of its own, for as long as the listener works.
pub(crate) async fn accept<F>(listener: VsockListener, serve: impl Fn(Stream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, peer)) if peer.cid() == HOST_CID => {
                tokio::spawn(serve(FramedStream::new(stream)));
            }
            Ok((_, peer)) => tracing::warn!("refused a connection from CID {}", peer.cid()),
            Err(error) => {
                // Out of descriptors, most likely: others must close some first.
                tracing::warn!(%error, "cannot accept a connection of the host");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Receives the first message of a connection, for which nobody may be kept waiting.
async fn opening<T: serde::de::DeserializeOwned>(stream: &mut Stream) -> io::Result<T> {
    tokio::time::timeout(OPENING, stream.recv()).await?
}

/// Carries a TCP connection over the wall until both directions have ended. A connection that breaks on one side
/// breaks on the other: it must not look like one that ended well.
async fn carry(mut tcp: TcpStream, mut stream: Stream) {
    match tokio::io::copy_bidirectional_with_sizes(&mut tcp, &mut stream, BUFFER, BUFFER).await {
        Ok(_) => {
            drop(tcp);
            await_close(stream).await;
        }
        Err(_) => {
            let _ = rustix::net::sockopt::set_socket_linger(&tcp, Some(Duration::ZERO));
            let _ = tokio::time::timeout(CLOSING, stream.reset()).await;
        }
    }
}

/// Lets the host close first: a vsock implementation may drop what is still on its way when the guest closes.
async fn await_close<S: AsyncRead + AsyncWrite + Unpin>(stream: FramedStream<S>) {
    let mut below = stream.into_inner();
    let _ = tokio::time::timeout(CLOSING, below.read(&mut [0])).await;
}
