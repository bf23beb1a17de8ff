//! Bytes in both directions between two streams, with half-close.

use std::io;

use protocol::FramedStream;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;

/// One record's worth: more would only be cut up again.
const BUFFER: usize = protocol::MAX_PAYLOAD;

/// Copies until both directions have ended. The end of one is passed on while the other goes on.
pub(crate) async fn relay<A, B>(a: &mut A, b: &mut B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin + ?Sized,
    B: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    copy_bidirectional_with_sizes(a, b, BUFFER, BUFFER).await.map(drop)
}

/// Copies between the fabric and a TCP connection. A connection that breaks on one side breaks on the other.
pub(crate) async fn relay_tcp<S>(mut framed: FramedStream<S>, mut tcp: TcpStream)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _ = tcp.set_nodelay(true);
    if relay(&mut framed, &mut tcp).await.is_err() {
        // Closing with unread or unsent bytes thrown away makes the kernel say RST, as the broken side did.
        let _ = tcp.set_zero_linger();
        let _ = framed.reset().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::net::TcpListener;

    async fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn the_answer_still_comes_after_the_question_has_ended() {
        let (guest, host) = duplex(64);
        let (mut client, inner) = tcp_pair().await;
        tokio::spawn(relay_tcp(FramedStream::new(host), inner));
        let mut guest = FramedStream::new(guest);
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        guest.read_to_string(&mut heard).await.unwrap();
        guest.write_all(b"answer").await.unwrap();
        guest.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((heard.as_str(), answer.as_str()), ("question", "answer"));
    }

    #[tokio::test]
    async fn a_guest_that_vanishes_resets_the_connection() {
        let (guest, host) = duplex(64);
        let (mut client, inner) = tcp_pair().await;
        tokio::spawn(relay_tcp(FramedStream::new(host), inner));
        drop(guest);
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
