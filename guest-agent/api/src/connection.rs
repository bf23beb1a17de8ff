//! One connection's life: requests in turn, perhaps a takeover, and an orderly end.
//!
//! ```text
//!  serving ──request──▶ answering ──▶ serving …
//!     │                     └─takeover─▶ raw session ──▶ closed
//!     ├─ client leaves, head too slow or too large ──▶ closed
//!     └─ drain: the answer under way is finished ──▶ closed
//! ```
//!
//! A request whose client leaves is dropped where it waits: streams end so. What must not be torn apart in
//! the middle (create, start, …) runs in a task of its own, see [`crate::router`].

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use engine::Engine;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;

use crate::body::Answer;
use crate::router;
use crate::stream::hijack::{Raw, Takeover};
use crate::transport::Transport;

/// What a client may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a request's head may take, from the end of the answer before it; idle connections end so.
    pub head_timeout: Duration,
    /// The most bytes of a request's head.
    pub head_bytes: usize,
    /// The most bytes of a JSON body. Archives are streams and have no limit here.
    pub json_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        // The timeout and the size of the head are dockerd's. The largest JSON body that clients send is a
        // container with its environment and labels.
        Limits { head_timeout: Duration::from_secs(300), head_bytes: 1 << 20, json_bytes: 4 << 20 }
    }
}

/// The API of one engine, for as many connections as there are.
#[derive(Clone)]
pub struct Api {
    engine: Engine,
    limits: Limits,
    phase: Arc<watch::Sender<Phase>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// No further requests; answers under way go on.
    Draining,
    /// Whatever still runs is dropped.
    Ended,
}

impl Api {
    /// The API of `engine` with the usual limits.
    pub fn new(engine: Engine) -> Api {
        Api::with_limits(engine, Limits::default())
    }

    /// The API of `engine` with limits of the caller's.
    pub fn with_limits(engine: Engine, limits: Limits) -> Api {
        Api { engine, limits, phase: Arc::new(watch::Sender::new(Phase::Serving)) }
    }

    /// Serves one connection until it ends.
    pub async fn serve_connection<T>(&self, io: T)
    where
        T: Transport + 'static,
    {
        let served = Served {
            engine: self.engine.clone(),
            json_limit: self.limits.json_bytes,
            draining: Draining(self.phase.subscribe()),
        };
        let handler = move |request, takeover| router::answer(served.clone(), request, takeover);
        run(io, self.limits, self.phase.subscribe(), handler).await;
    }

    /// Ends all connections: each finishes the answer it is at, or is dropped when `grace` is over.
    ///
    /// Whoever accepts connections has to stop before; one that is served later ends after its first answer.
    pub async fn drain(&self, grace: Duration) {
        self.phase.send_replace(Phase::Draining);
        if tokio::time::timeout(grace, self.phase.closed()).await.is_err() {
            self.phase.send_replace(Phase::Ended);
            self.phase.closed().await;
        }
    }
}

/// What every request needs of the API that it came to.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) engine: Engine,
    /// The most bytes that a JSON body may have.
    pub(crate) json_limit: usize,
    pub(crate) draining: Draining,
}

/// Tells streams that never end by themselves (events, followed logs) when to do so.
#[derive(Clone)]
pub(crate) struct Draining(watch::Receiver<Phase>);

impl Draining {
    /// Resolves when no further requests are served.
    pub(crate) async fn begun(self) {
        reached(self.0, Phase::Draining).await;
    }
}

/// Serves one connection of an engine until it ends.
pub async fn serve_connection<T>(engine: Engine, io: T)
where
    T: Transport + 'static,
{
    Api::new(engine).serve_connection(io).await;
}

/// How the HTTP part of a connection ended.
enum End {
    Closed(hyper::Result<()>),
    TakenOver,
    Dropped,
}

async fn run<T, H, F>(io: T, limits: Limits, phase: watch::Receiver<Phase>, handler: H)
where
    T: Transport + 'static,
    H: Fn(Request<Incoming>, Takeover) -> F,
    F: Future<Output = Answer>,
{
    let takeover = Takeover::default();
    let flushed = Arc::new(AtomicBool::new(true));
    let service = service_fn(|request| {
        let answer = handler(request, takeover.clone());
        // Boxed because the connection has to be movable to be taken apart.
        Box::pin(async move { Ok::<_, Infallible>(answer.await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(Flushing { io, flushed: Arc::clone(&flushed) }), service);

    let mut draining = false;
    let mut drained = pin!(reached(phase.clone(), Phase::Draining));
    let mut ended = pin!(reached(phase, Phase::Ended));
    let end = poll_fn(|context| {
        if !draining && drained.as_mut().poll(context).is_ready() {
            draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if let Poll::Ready(result) = connection.poll_without_shutdown(context) {
            return Poll::Ready(End::Closed(result));
        }
        // Only when the answer before this request has left is there nothing of HTTP to lose.
        if takeover.is_wanted() && flushed.load(Ordering::Relaxed) {
            return Poll::Ready(End::TakenOver);
        }
        ended.as_mut().poll(context).map(|()| End::Dropped)
    })
    .await;

    let parts = connection.into_parts();
    let io = parts.io.into_inner().io;
    match end {
        End::TakenOver => {
            if let Some(session) = takeover.take() {
                let raw = Raw::new(parts.read_buf, Box::new(io));
                tokio::select! {
                    () = session(raw) => {}
                    () = ended => {}
                }
            }
        }
        End::Closed(result) => {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended early");
            }
            close(io).await;
        }
        End::Dropped => {}
    }
}

/// Resolves when the API is in this phase or a later one.
async fn reached(mut phase: watch::Receiver<Phase>, wanted: Phase) {
    // The sender is gone only when nobody is left to end connections.
    if phase.wait_for(|phase| *phase >= wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn close<T: AsyncRead + AsyncWrite + Unpin>(mut io: T) {
    if io.shutdown().await.is_ok() {
        linger(io).await;
    }
}

/// Reads what a client still sends, for a moment: to close over unread bytes makes the kernel tell the
/// client of a reset connection, before or instead of the last bytes that were sent to it.
pub(crate) async fn linger<T: AsyncRead + Unpin>(mut io: T) {
    const LINGER: Duration = Duration::from_millis(500);
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut io, &mut tokio::io::sink())).await;
}

/// A byte stream that knows whether everything written to it was flushed.
struct Flushing<T> {
    io: T,
    flushed: Arc<AtomicBool>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Flushing<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Flushing<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.flushed.store(false, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.flushed.store(false, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        if let Poll::Ready(Ok(())) = flushed {
            self.flushed.store(true, Ordering::Relaxed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{self, Body};
    use crate::stream::hijack::Upgrade;
    use crate::transport::Opaque;
    use bytes::Bytes;
    use futures_util::StreamExt;
    use http::StatusCode;
    use tokio::io::{AsyncReadExt, DuplexStream};

    /// `/echo` is taken over and sends back what it gets until its end, then `bye`; `/wait` sends its head
    /// and never ends; anything else is answered with its path.
    async fn handler(request: Request<Incoming>, takeover: Takeover) -> Answer {
        match request.uri().path() {
            "/echo" => {
                let upgrade = Upgrade::asked(request.headers());
                let never = takeover
                    .run(upgrade, "application/vnd.docker.raw-stream", |raw| async move {
                        let (mut read, mut write) = tokio::io::split(raw);
                        tokio::io::copy(&mut read, &mut write).await.unwrap();
                        write.write_all(b"bye").await.unwrap();
                        write.shutdown().await.unwrap();
                    })
                    .await;
                match never {}
            }
            "/wait" => body::stream("text/plain", futures_util::stream::pending()),
            "/slow" => body::stream(
                "text/plain",
                futures_util::stream::iter(["a", "b"]).map(|text| Ok(Bytes::from_static(text.as_bytes()))),
            ),
            path => {
                let text = Bytes::from(path.to_owned());
                body::with_type(StatusCode::OK, "text/plain", Body::Whole(text))
            }
        }
    }

    struct Serving {
        client: DuplexStream,
        phase: watch::Sender<Phase>,
        task: tokio::task::JoinHandle<()>,
    }

    fn serve_with(limits: Limits) -> Serving {
        let (client, server) = tokio::io::duplex(1 << 16);
        let phase = watch::Sender::new(Phase::Serving);
        let task = tokio::spawn(run(Opaque(server), limits, phase.subscribe(), handler));
        Serving { client, phase, task }
    }

    fn serve() -> Serving {
        serve_with(Limits::default())
    }

    async fn read_until(client: &mut DuplexStream, end: &[u8]) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end) {
            let byte = client
                .read_u8()
                .await
                .unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&text)));
            text.push(byte);
        }
        String::from_utf8(text).unwrap()
    }

    async fn read_rest(client: &mut DuplexStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_takeover_without_upgrade_is_raw_and_half_closes() {
        let mut serving = serve();
        // Bytes that arrive together with the head belong to the stream.
        serving.client.write_all(b"POST /echo HTTP/1.1\r\nHost: d\r\n\r\nearly ").await.unwrap();
        let head = read_until(&mut serving.client, b"\r\n\r\n").await;
        assert_eq!(head, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n");
        assert_eq!(read_until(&mut serving.client, b"early ").await, "early ");
        serving.client.write_all(b"late").await.unwrap();
        serving.client.shutdown().await.unwrap();
        assert_eq!(read_rest(&mut serving.client).await, "latebye");
        serving.task.await.unwrap();
    }

    #[tokio::test]
    async fn a_takeover_with_upgrade_answers_101_and_half_closes() {
        let mut serving = serve();
        let request = b"POST /echo HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";
        serving.client.write_all(request).await.unwrap();
        let head = read_until(&mut serving.client, b"\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
        serving.client.write_all(b"hello").await.unwrap();
        serving.client.shutdown().await.unwrap();
        assert_eq!(read_rest(&mut serving.client).await, "hellobye");
    }

    #[tokio::test]
    async fn a_takeover_may_follow_other_requests_on_the_connection() {
        let mut serving = serve();
        // Pipelined on purpose: the first answer must arrive whole before the raw stream begins.
        serving
            .client
            .write_all(b"GET /first HTTP/1.1\r\nHost: d\r\n\r\nPOST /echo HTTP/1.1\r\nHost: d\r\n\r\nraw")
            .await
            .unwrap();
        serving.client.shutdown().await.unwrap();
        let all = read_rest(&mut serving.client).await;
        let (first, second) = all.split_once("/first").unwrap();
        assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{all}");
        assert!(second.starts_with("HTTP/1.1 200 OK\r\n") && second.ends_with("\r\n\r\nrawbye"), "{all}");
    }

    #[tokio::test]
    async fn a_stream_sends_its_head_before_its_first_byte() {
        let mut serving = serve();
        serving.client.write_all(b"GET /wait HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
        let head = read_until(&mut serving.client, b"\r\n\r\n").await;
        assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
        // And it ends when the client leaves.
        drop(serving.client);
        serving.task.await.unwrap();
    }

    #[tokio::test]
    async fn head_has_the_head_of_get_without_its_body() {
        let mut serving = serve();
        serving
            .client
            .write_all(b"HEAD /abc HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let all = read_rest(&mut serving.client).await;
        assert!(all.contains("Content-Length: 4\r\n") && all.ends_with("\r\n\r\n"), "{all}");
    }

    #[tokio::test]
    async fn an_old_client_gets_a_stream_without_chunks() {
        let mut serving = serve();
        serving.client.write_all(b"GET /slow HTTP/1.0\r\n\r\n").await.unwrap();
        let all = read_rest(&mut serving.client).await;
        assert!(all.ends_with("\r\n\r\nab") && !all.contains("chunked"), "{all}");
    }

    #[tokio::test]
    async fn a_head_that_takes_too_long_ends_the_connection() {
        let mut serving = serve_with(Limits { head_timeout: Duration::from_millis(50), ..Limits::default() });
        serving.client.write_all(b"GET / HT").await.unwrap();
        read_rest(&mut serving.client).await;
        serving.task.await.unwrap();
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let mut serving = serve_with(Limits { head_bytes: 8192, ..Limits::default() });
        let giant = format!("GET / HTTP/1.1\r\nHost: d\r\nX: {}\r\n\r\n", "x".repeat(20_000));
        serving.client.write_all(giant.as_bytes()).await.unwrap();
        let answer = read_rest(&mut serving.client).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[tokio::test]
    async fn draining_ends_idle_connections_and_lets_answers_finish() {
        let idle = serve();
        idle.phase.send_replace(Phase::Draining);
        idle.task.await.unwrap();

        let mut busy = serve();
        busy.client.write_all(b"POST /echo HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
        read_until(&mut busy.client, b"\r\n\r\n").await;
        busy.phase.send_replace(Phase::Draining);
        busy.client.write_all(b"still here").await.unwrap();
        assert_eq!(read_until(&mut busy.client, b"here").await, "still here");
        busy.phase.send_replace(Phase::Ended);
        busy.task.await.unwrap();
    }

    #[tokio::test]
    async fn ending_drops_a_stream_that_never_ends() {
        let mut serving = serve();
        serving.client.write_all(b"GET /wait HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
        read_until(&mut serving.client, b"\r\n\r\n").await;
        serving.phase.send_replace(Phase::Ended);
        serving.task.await.unwrap();
    }
}
