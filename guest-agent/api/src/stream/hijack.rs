//! Taking a connection over: from HTTP to raw bytes in both directions, half-close included.
//!
//! Docker's attach and exec turn the connection into a raw stream, announced by `101 UPGRADED` when the
//! client asked for `Upgrade`, and by a bare `200 OK` without any length when it did not. HTTP servers
//! know the first only. So a handler does not answer: it leaves its session in the connection's
//! [`Takeover`] and never returns, and the connection takes the bytes back from the HTTP machinery
//! (which has written nothing for this request) and runs the session on them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{HeaderMap, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What runs on a connection after HTTP.
pub(crate) type Session = Box<dyn FnOnce(Raw) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Where a handler leaves its session for the connection to find.
#[derive(Clone, Default)]
pub(crate) struct Takeover(Arc<Mutex<Option<Session>>>);

impl Takeover {
    /// Takes the connection over: writes the head that `upgrade` calls for, then runs the session.
    ///
    /// Returns only if the connection ends first, which is never seen by the caller: its future is dropped.
    pub(crate) async fn run<F, Running>(&self, upgrade: Upgrade, content_type: &str, session: F) -> Infallible
    where
        F: FnOnce(Raw) -> Running + Send + 'static,
        Running: Future<Output = ()> + Send + 'static,
    {
        tracing::debug!(?upgrade, content_type, "taking the connection over");
        self.run_behind(upgrade.head(content_type), session).await
    }

    /// As [`Takeover::run`], with the whole head of the answer.
    pub(crate) async fn run_behind<F, Running>(&self, head: Vec<u8>, session: F) -> Infallible
    where
        F: FnOnce(Raw) -> Running + Send + 'static,
        Running: Future<Output = ()> + Send + 'static,
    {
        let session: Session = Box::new(move |mut raw: Raw| {
            Box::pin(async move {
                use tokio::io::AsyncWriteExt;
                // A client that is gone already has nobody to run the session for; the session still sees
                // it, as an end of file, so that what it holds is released in one place.
                if let Err(error) = raw.write_all(&head).await {
                    tracing::debug!(%error, "the client left before the stream began");
                }
                session(raw).await;
            })
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
        std::future::pending().await
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(crate) fn take(&self) -> Option<Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Which protocol the client asked to switch to, if it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Upgrade {
    No,
    To(String),
}

impl Upgrade {
    /// Reads the request's headers. As dockerd does, `Upgrade` alone counts.
    pub(crate) fn asked(headers: &HeaderMap) -> Upgrade {
        match headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()) {
            Some(protocol) if !protocol.is_empty() => Upgrade::To(protocol.to_owned()),
            _ => Upgrade::No,
        }
    }

    /// Whether the client asked.
    pub(crate) fn is_asked(&self) -> bool {
        *self != Upgrade::No
    }

    fn head(&self, content_type: &str) -> Vec<u8> {
        match self {
            Upgrade::No => format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n"),
            Upgrade::To(protocol) => format!(
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
            ),
        }
        .into_bytes()
    }
}

/// Any byte stream.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A taken-over connection: first what HTTP had read too far, then the stream itself.
pub(crate) struct Raw {
    early: Bytes,
    io: Box<dyn Duplex>,
}

impl Raw {
    pub(crate) fn new(early: Bytes, io: Box<dyn Duplex>) -> Raw {
        Raw { early, io }
    }
}

impl AsyncRead for Raw {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let length = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early[..length]);
        self.early.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_follows_the_request() {
        let mut headers = HeaderMap::new();
        assert_eq!(Upgrade::asked(&headers), Upgrade::No);
        let plain = String::from_utf8(Upgrade::No.head("text/x")).unwrap();
        assert_eq!(plain, "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\n\r\n");

        headers.insert(header::UPGRADE, "tcp".parse().unwrap());
        let upgraded = String::from_utf8(Upgrade::asked(&headers).head("text/x")).unwrap();
        assert!(upgraded.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{upgraded}");
        assert!(upgraded.ends_with("Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"), "{upgraded}");
    }
}
