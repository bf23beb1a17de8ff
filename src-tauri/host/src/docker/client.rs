//! Typed calls of the Engine API: what the window and the command can do, any client can.
//!
//! One connection per call over the socket: a unix socket costs microseconds, and a pool would have to
//! outlive restarts of the VM.

use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream::Stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::types::*;

/// The newest API version that this client speaks.
const API_VERSION: &str = "v1.47";

/// Largest answer that is read as a whole; a list of 10,000 containers takes about 15 MiB.
const MAX_ANSWER: usize = 64 << 20;

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, ClientError>> + Send>>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on the socket.
    #[error("cannot connect to the engine at `{}`: is it running?", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The engine refused, in its own words.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The engine's sentence.
        message: String,
    },
    /// The connection broke, or carried no HTTP.
    #[error("the connection to the engine broke during `{call}`")]
    Transport {
        /// Method and path.
        call: String,
        /// The reason.
        source: hyper::Error,
    },
    /// The answer isn't what the API promises.
    #[error("the engine's answer to `{call}` cannot be read")]
    Answer {
        /// Method and path.
        call: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A progress stream ended with an error line.
    #[error("{0}")]
    Failed(String),
    /// A file to be sent can't be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A client of the engine behind one socket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// A call under way: for error messages.
struct Call {
    method: Method,
    path: String,
}

impl Call {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Client {
    /// A client of the engine that listens on `socket`. Connects at each call.
    pub fn unix(socket: impl Into<PathBuf>) -> Client {
        Client { socket: socket.into() }
    }

    /// The socket that it talks to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /_ping`
    pub async fn ping(&self) -> Result<(), ClientError> {
        self.send(Method::GET, "/_ping", empty()).await.map(drop)
    }

    /// `GET /info`
    pub async fn info(&self) -> Result<Info, ClientError> {
        self.get("/info").await
    }

    /// `GET /version`
    pub async fn version(&self) -> Result<Version, ClientError> {
        self.get("/version").await
    }

    /// `GET /system/df`
    pub async fn disk_usage(&self) -> Result<DiskUsage, ClientError> {
        self.get("/system/df").await
    }

    /// `GET /containers/json`
    pub async fn containers(&self, all: bool) -> Result<Vec<ContainerSummary>, ClientError> {
        self.get(&format!("/containers/json?all={all}")).await
    }

    /// `GET /containers/{id}/json`
    pub async fn container(&self, id: &str) -> Result<ContainerInspect, ClientError> {
        self.get(&format!("/containers/{}/json", escape(id))).await
    }

    /// `POST /containers/create`
    pub async fn create_container(
        &self,
        name: Option<&str>,
        create: &CreateContainer,
    ) -> Result<Created, ClientError> {
        let query = name.map(|name| format!("?name={}", escape(name))).unwrap_or_default();
        self.post_json(&format!("/containers/create{query}"), create).await
    }

    /// `POST /containers/{id}/start`; a container that runs already is no error.
    pub async fn start_container(&self, id: &str) -> Result<(), ClientError> {
        self.post(&format!("/containers/{}/start", escape(id))).await
    }

    /// `POST /containers/{id}/stop`; a container that doesn't run is no error.
    pub async fn stop_container(&self, id: &str) -> Result<(), ClientError> {
        self.post(&format!("/containers/{}/stop", escape(id))).await
    }

    /// `POST /containers/{id}/restart`
    pub async fn restart_container(&self, id: &str) -> Result<(), ClientError> {
        self.post(&format!("/containers/{}/restart", escape(id))).await
    }

    /// `POST /containers/{id}/kill`
    pub async fn kill_container(&self, id: &str) -> Result<(), ClientError> {
        self.post(&format!("/containers/{}/kill", escape(id))).await
    }

    /// `POST /containers/{id}/pause`
    pub async fn pause_container(&self, id: &str) -> Result<(), ClientError> {
        self.post(&format!("/containers/{}/pause", escape(id))).await
    }

    /// `POST /containers/{id}/unpause`
    pub async fn unpause_container(&self, id: &str) -> Result<(), ClientError> {
        self.post(&format!("/containers/{}/unpause", escape(id))).await
    }

    /// `DELETE /containers/{id}`; `volumes` takes its anonymous volumes with it.
    pub async fn remove_container(&self, id: &str, force: bool, volumes: bool) -> Result<(), ClientError> {
        let path = format!("/containers/{}?force={force}&v={volumes}", escape(id));
        self.send(Method::DELETE, &path, empty()).await.map(drop)
    }

    /// `POST /containers/{id}/wait`: ends when the container isn't running.
    pub async fn wait_container(&self, id: &str) -> Result<WaitResult, ClientError> {
        self.post_json(&format!("/containers/{}/wait", escape(id)), &Empty {}).await
    }

    /// `GET /containers/{id}/logs`
    pub async fn container_logs(
        &self,
        id: &str,
        options: &LogOptions,
    ) -> Result<Answers<LogChunk>, ClientError> {
        let tty = self.container(id).await?.config.tty;
        let tail = options.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let since = options.since.map(|since| format!("&since={since}")).unwrap_or_default();
        let path = format!(
            "/containers/{}/logs?stdout=1&stderr=1&follow={}&timestamps={}&tail={tail}{since}",
            escape(id),
            options.follow,
            options.timestamps
        );
        let answer = self.send(Method::GET, &path, empty()).await?;
        Ok(super::stream::log_chunks(answer.into_body(), tty, path))
    }

    /// `GET /images/json`
    pub async fn images(&self) -> Result<Vec<ImageSummary>, ClientError> {
        self.get("/images/json").await
    }

    /// `GET /images/{name}/json`
    pub async fn image(&self, name: &str) -> Result<ImageInspect, ClientError> {
        self.get(&format!("/images/{}/json", escape(name))).await
    }

    /// `GET /images/{name}/history`
    pub async fn image_history(&self, name: &str) -> Result<Vec<HistoryEntry>, ClientError> {
        self.get(&format!("/images/{}/history", escape(name))).await
    }

    /// `DELETE /images/{name}`
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<Vec<ImageRemoved>, ClientError> {
        let path = format!("/images/{}?force={force}", escape(name));
        let answer = self.send(Method::DELETE, &path, empty()).await?;
        read_json(Call { method: Method::DELETE, path }, answer).await
    }

    /// `POST /images/create`: pulls; a name without tag or digest means `latest`. An error line ends the stream as `Err`.
    pub async fn pull_image(&self, reference: &str) -> Result<Answers<Progress>, ClientError> {
        let last = reference.rsplit('/').next().unwrap_or(reference);
        let tag = if last.contains([':', '@']) { "" } else { "&tag=latest" };
        let path = format!("/images/create?fromImage={}{tag}", escape(reference));
        let answer = self.send(Method::POST, &path, empty()).await?;
        Ok(super::stream::progress(answer.into_body(), path))
    }

    /// `POST /images/load`: sends a tar archive made by `docker save`.
    pub async fn load_image(&self, archive: &Path) -> Result<Answers<Progress>, ClientError> {
        let body = super::stream::file_body(archive).await?;
        let path = "/images/load?quiet=true".to_owned();
        let answer = self.send(Method::POST, &path, body).await?;
        Ok(super::stream::progress(answer.into_body(), path))
    }

    /// `GET /volumes`
    pub async fn volumes(&self) -> Result<Vec<Volume>, ClientError> {
        Ok(self.get::<VolumeList>("/volumes").await?.volumes)
    }

    /// `DELETE /volumes/{name}`
    pub async fn remove_volume(&self, name: &str, force: bool) -> Result<(), ClientError> {
        let path = format!("/volumes/{}?force={force}", escape(name));
        self.send(Method::DELETE, &path, empty()).await.map(drop)
    }

    /// `GET /networks`
    pub async fn networks(&self) -> Result<Vec<Network>, ClientError> {
        self.get("/networks").await
    }

    /// `GET /networks/{id}`
    pub async fn network(&self, id: &str) -> Result<Network, ClientError> {
        self.get(&format!("/networks/{}", escape(id))).await
    }

    /// `GET /events`: from now on, until the stream is dropped or the engine ends.
    pub async fn events(&self) -> Result<Answers<Event>, ClientError> {
        let path = "/events".to_owned();
        let answer = self.send(Method::GET, &path, empty()).await?;
        Ok(super::stream::json_lines(answer.into_body(), path))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.send(Method::GET, path, empty()).await?;
        read_json(Call { method: Method::GET, path: path.to_owned() }, answer).await
    }

    async fn post(&self, path: &str) -> Result<(), ClientError> {
        self.send(Method::POST, path, empty()).await.map(drop)
    }

    async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let call = Call { method: Method::POST, path: path.to_owned() };
        let bytes = serde_json::to_vec(body)
            .map_err(|error| ClientError::Answer { call: call.name(), source: error.into() })?;
        let answer = self.send(Method::POST, path, full(bytes)).await?;
        read_json(call, answer).await
    }

    /// Sends one request; an answer outside 2xx and 304 becomes an error with the engine's message.
    async fn send(&self, method: Method, path: &str, body: Body) -> Result<Response<Incoming>, ClientError> {
        let call = Call { method: method.clone(), path: path.to_owned() };
        let broke = |source| ClientError::Transport { call: call.name(), source };
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::Connect { socket: self.socket.clone(), source })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        // Ends with the answer's body, or when that is dropped.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("/{API_VERSION}{path}"))
            .header(http::header::HOST, "docker")
            .header(
                http::header::CONTENT_TYPE,
                if path.starts_with("/images/load") { "application/x-tar" } else { "application/json" },
            )
            .body(body)
            .map_err(|error| ClientError::Answer { call: call.name(), source: error.into() })?;
        let answer = sender.send_request(request).await.map_err(broke)?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(answer);
        }
        Err(refusal(call, answer).await)
    }
}

/// The engine's `{"message": …}`, or whatever it said instead.
async fn refusal(call: Call, answer: Response<Incoming>) -> ClientError {
    #[derive(serde::Deserialize)]
    struct Message {
        message: String,
    }
    let status = answer.status().as_u16();
    match read_all(call, answer).await {
        Ok(bytes) => {
            let message = serde_json::from_slice::<Message>(&bytes)
                .map_or_else(|_| String::from_utf8_lossy(&bytes).trim().to_owned(), |found| found.message);
            ClientError::Refused { status, message }
        }
        Err(error) => error,
    }
}

async fn read_json<T: DeserializeOwned>(call: Call, answer: Response<Incoming>) -> Result<T, ClientError> {
    let name = call.name();
    let bytes = read_all(call, answer).await?;
    serde_json::from_slice(&bytes).map_err(|error| ClientError::Answer { call: name, source: error.into() })
}

async fn read_all(call: Call, answer: Response<Incoming>) -> Result<Bytes, ClientError> {
    let limited = http_body_util::Limited::new(answer.into_body(), MAX_ANSWER);
    match limited.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(source) => Err(ClientError::Answer { call: call.name(), source }),
    }
}

fn empty() -> Body {
    full(Vec::new())
}

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

/// Percent-encodes what may not stand in a path segment or query value.
fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
