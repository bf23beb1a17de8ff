//! Connections of the host's clients to published ports: dialled here, where containers can be reached.

use std::io;
use std::time::Duration;

use protocol::{DialRequest, Dialed, Transport};
use tokio::net::TcpStream;

use super::Stream;

const CONNECTING: Duration = Duration::from_secs(10);

/// Serves one connection.
pub(crate) async fn serve(mut stream: Stream) {
    let Ok(request) = super::opening::<DialRequest>(&mut stream).await else { return };
    match dial(&request).await {
        Ok(tcp) => {
            if stream.send(&Dialed::Connected).await.is_ok() {
                super::carry(tcp, stream).await;
            }
        }
        Err(error) => {
            let failed = Dialed::Failed { kind: error.kind().into(), message: error.to_string() };
            if stream.send(&failed).await.is_ok() {
                super::await_close(stream).await;
            }
        }
    }
}

async fn dial(request: &DialRequest) -> io::Result<TcpStream> {
    if request.protocol != Transport::Tcp {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "only TCP connections are carried to containers",
        ));
    }
    let tcp = tokio::time::timeout(CONNECTING, TcpStream::connect(request.target)).await??;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
