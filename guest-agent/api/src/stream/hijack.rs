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
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::transport::Transport;

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
                raw.shut_gate();
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

/// A taken-over connection: first what HTTP had read too far, then the stream itself.
pub(crate) struct Raw {
    early: Bytes,
    io: Box<dyn Transport>,
    /// Shut from the answer's head until the client may be sent the first byte behind it.
    gate: Option<Gate>,
}

impl Raw {
    pub(crate) fn new(early: Bytes, io: Box<dyn Transport>) -> Raw {
        Raw { early, io, gate: None }
    }

    /// What is written from now on waits for the client to have taken what was written before.
    fn shut_gate(&mut self) {
        self.gate = Some(Gate::new());
    }

    fn poll_gate(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.poll(&*self.io, context));
            self.gate = None;
        }
        Poll::Ready(())
    }
}

/// Keeps the first byte of a raw stream apart from the head before it.
///
/// Clients read the head through a buffer and then turn to the socket beneath; docker-py loses what came
/// along in the buffer. An engine that takes tens of milliseconds to start a process hides that, this one
/// would not. What runs is not held up by the gate, only its first output, if it is that quick.
struct Gate {
    shut: Instant,
    next: Pin<Box<Sleep>>,
}

impl Gate {
    /// How often the other end is looked at.
    const PACE: Duration = Duration::from_millis(1);
    /// How long a client may take to read the head where its reading can be seen.
    const PATIENCE: Duration = Duration::from_millis(200);
    /// How long it is given where nothing can be seen.
    const PAUSE: Duration = Duration::from_millis(3);

    fn new() -> Gate {
        let shut = Instant::now();
        Gate { shut, next: Box::pin(tokio::time::sleep_until(shut + Gate::PACE)) }
    }

    fn poll(&mut self, io: &dyn Transport, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let opens = match io.all_taken() {
                Some(true) => return Poll::Ready(()),
                Some(false) => Gate::PATIENCE,
                None => Gate::PAUSE,
            };
            if self.shut.elapsed() >= opens {
                return Poll::Ready(());
            }
            ready!(self.next.as_mut().poll(context));
            self.next.as_mut().reset(Instant::now() + Gate::PACE);
        }
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
        ready!(self.poll_gate(context));
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

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

    #[tokio::test]
    async fn the_first_byte_waits_until_the_client_has_read_the_head() {
        let (engine, mut client) = UnixStream::pair().unwrap();
        let takeover = Takeover::default();
        let never = takeover.run(Upgrade::No, "text/x", |mut raw| async move {
            raw.write_all(b"first").await.unwrap();
            raw.shutdown().await.unwrap();
        });
        assert!(tokio::time::timeout(Duration::ZERO, never).await.is_err());
        let session = takeover.take().unwrap();
        tokio::spawn(session(Raw::new(Bytes::new(), Box::new(engine))));
        // A read takes what is there: the head and nothing behind it, however late it comes.
        client.readable().await.unwrap();
        let mut head = vec![0; 1024];
        let length = client.read(&mut head).await.unwrap();
        assert!(head[..length].ends_with(b"\r\n\r\n"));
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "first");
    }
}
