//! Any address's content, for imports.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::RegistryConfig;
use super::client::{Ask, Session, malformed};
use crate::ImageError;

/// Pieces that may wait for their reader.
const QUEUE: usize = 16;

impl RegistryConfig {
    /// The bytes at an address; without a scheme it is taken for plain HTTP. An error item means that they broke off.
    pub async fn download(&self, address: &str) -> Result<mpsc::Receiver<io::Result<Bytes>>, ImageError> {
        let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let (scheme, rest) = address.split_once("://").unwrap_or_default();
        if !matches!(scheme, "http" | "https") || rest.is_empty() {
            return Err(malformed(&address, "only http and https addresses are read").into());
        }
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let path = rest[host.len()..].to_owned();
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let base = format!("{scheme}://{host}");
        let session = Session::new(Arc::new(self.clone()), base, String::new(), None);
        let mut body = session.request(Ask { path: &path, ..Ask::default() }).await?.into_body();
        let (sink, content) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            loop {
                let piece = match session.next(&mut body, &address).await {
                    Ok(Some(bytes)) => Ok(bytes),
                    Ok(None) => return,
                    Err(error) => Err(io::Error::other(error)),
                };
                let broken = piece.is_err();
                if sink.send(piece).await.is_err() || broken {
                    return;
                }
            }
        });
        Ok(content)
    }
}
