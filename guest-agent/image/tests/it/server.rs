//! A registry that does as it is told, however rude.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use image::Digest;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::fixture::{Built, MANIFEST};

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The first byte wanted.
    pub(crate) fn from(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |from| from.parse().unwrap())
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Say no more after so many bytes of the body.
    pub(crate) hang: Option<usize>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: &[u8]) -> Reply {
        Reply { status, body: body.to_vec(), ..Reply::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The rest of `body` that the request wants.
    pub(crate) fn ranged(request: &Request, body: &[u8]) -> Reply {
        let from = request.from();
        Reply::new(if from > 0 { 206 } else { 200 }, &body[from..])
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(
        handler: impl Fn(&Request, SocketAddr) -> Reply + Send + Sync + 'static,
    ) -> Server {
        Server::start_with(None, handler).await
    }

    /// Speaks TLS if it was given how.
    pub(crate) async fn start_with(
        tls: Option<TlsAcceptor>,
        handler: impl Fn(&Request, SocketAddr) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, handler) = (Arc::clone(&requests), Arc::new(handler));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (log, handler, tls) = (Arc::clone(&log), Arc::clone(&handler), tls.clone());
                tokio::spawn(async move {
                    let handle = |request: &Request| {
                        log.lock().unwrap().push(request.clone());
                        handler(request, address)
                    };
                    match tls {
                        None => serve(stream, handle).await,
                        Some(tls) => serve(tls.accept(stream).await?, handle).await,
                    }
                });
            }
        });
        Server { address, requests, task }
    }

    /// Serves an image as a good registry does, unless `twist` has another answer.
    pub(crate) async fn of(
        image: Built,
        twist: impl Fn(&Request, SocketAddr) -> Option<Reply> + Send + Sync + 'static,
    ) -> Server {
        Server::start(move |request, address| {
            twist(request, address).unwrap_or_else(|| good(&image, request))
        })
        .await
    }

    pub(crate) fn reference(&self) -> String {
        format!("{}/app:1", self.address)
    }

    pub(crate) fn asked_for(&self, part: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.path.contains(part)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn good(image: &Built, request: &Request) -> Reply {
    if request.path.contains("/manifests/") {
        return Reply::new(200, &image.manifest).with("Content-Type", MANIFEST);
    }
    let blobs = image.layers.iter().map(|layer| &layer.blob).chain([&image.config]);
    for blob in blobs {
        if request.path.ends_with(&Digest::of(blob).to_string()) {
            return Reply::ranged(request, blob);
        }
    }
    Reply::new(404, br#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#)
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    handle: impl Fn(&Request) -> Reply,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await?;
        // A TLS greeting, or the end.
        let Ok(line) = String::from_utf8(line) else { return Ok(()) };
        let Some(path) = line.split(' ').nth(1).filter(|_| line.ends_with("HTTP/1.1\r\n")) else {
            return Ok(());
        };
        let mut request = Request { path: path.to_owned(), headers: Vec::new() };
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().unwrap();
            }
            request.headers.push((name.to_owned(), value.to_owned()));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let reply = handle(&request);
        let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await?;
        let sent = reply.cut.or(reply.hang).unwrap_or(reply.body.len()).min(reply.body.len());
        stream.write_all(&reply.body[..sent]).await?;
        stream.flush().await?;
        if reply.hang.is_some() {
            std::future::pending::<()>().await;
        }
        if reply.cut.is_some() {
            return Ok(());
        }
    }
}
