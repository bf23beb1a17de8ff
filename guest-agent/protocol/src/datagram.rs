//! Datagrams over a stream: each behind its length in two big-endian bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Sends one datagram, of at most 65,535 bytes, and flushes it.
pub async fn send_datagram<W: AsyncWrite + Unpin>(writer: &mut W, datagram: &[u8]) -> io::Result<()> {
    let length = u16::try_from(datagram.len()).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(2 + datagram.len());
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(datagram);
    writer.write_all(&message).await?;
    writer.flush().await
}

/// Receives the next datagram. What was read of one is lost when the future is dropped.
pub async fn recv_datagram<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Vec<u8>> {
    let length = reader.read_u16().await?;
    let mut datagram = vec![0; usize::from(length)];
    reader.read_exact(&mut datagram).await?;
    Ok(datagram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn datagrams_keep_their_bounds_also_empty_and_large_ones() {
        let (mut here, mut there) = tokio::io::duplex(100);
        let sent = [vec![], vec![7; 3], vec![9; 65_535]];
        let sending = async {
            for datagram in &sent {
                send_datagram(&mut here, datagram).await.unwrap();
            }
            assert!(send_datagram(&mut here, &[0; 65_536]).await.is_err());
        };
        let receiving = async {
            for datagram in &sent {
                assert_eq!(recv_datagram(&mut there).await.unwrap(), *datagram);
            }
        };
        tokio::join!(sending, receiving);
    }
}
