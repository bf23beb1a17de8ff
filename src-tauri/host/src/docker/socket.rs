//! `docker.sock` on the host: every connection is carried, byte for byte, to the engine's API.
//!
//! The socket is there from the begin of a start. A client that comes before the engine answers waits for it,
//! so `sampan start` and `docker run` may be typed at once.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::fabric::relay;
use crate::hypervisor::{BoxFuture, BoxStream, check_socket_path};
use crate::model::{Failure, FailureKind};

/// Connections that may be open at once. More wait in the kernel's queue.
const MAX_OPEN: usize = 4096;

/// Opens streams to the engine's API.
pub trait Api: Send + Sync {
    /// Opens one.
    fn open(&self) -> BoxFuture<'_, io::Result<BoxStream>>;
}

/// Where connections are carried to: none while there is no engine.
pub type Backend = Option<Arc<dyn Api>>;

/// The socket. It is gone from the file system once this is dropped.
#[derive(Debug)]
pub struct DockerSocket {
    path: PathBuf,
    _tasks: JoinSet<()>,
}

impl Drop for DockerSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl DockerSocket {
    /// Binds `path`. A socket that nobody serves any more is replaced; one that is served is left alone.
    pub async fn bind(path: &Path, backend: watch::Receiver<Backend>) -> Result<DockerSocket, Failure> {
        let listener = bind(path).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, backend));
        Ok(DockerSocket { path: path.to_owned(), _tasks: tasks })
    }
}

/// Binds a socket for this user alone, in a directory that is made when it isn't there.
pub(crate) async fn bind(path: &Path) -> Result<UnixListener, Failure> {
    check_socket_path(path)?;
    let system =
        |error: io::Error| Failure::system(format!("cannot make the socket `{}`", path.display()), error);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(system)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(system)?;
    }
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            let message = format!("`{}` is not a socket: move it away", path.display());
            return Err(Failure::new(FailureKind::Busy, message));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            let message =
                format!("`{}` is served by another program already: stop that one first", path.display());
            return Err(Failure::new(FailureKind::Busy, message));
        }
        Ok(_) => fs::remove_file(path).map_err(system)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(system)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(system)?;
    Ok(listener)
}

async fn accept(listener: UnixListener, backend: watch::Receiver<Backend>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < MAX_OPEN => match accepted {
                Ok((client, _)) => { open.spawn(carry(client, backend.clone())); }
                Err(error) => {
                    tracing::warn!(%error, "cannot take a Docker client");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = open.join_next() => {}
        }
    }
}

async fn carry(mut client: UnixStream, mut backend: watch::Receiver<Backend>) {
    let api = match backend.wait_for(Option::is_some).await {
        Ok(found) => found.clone(),
        Err(_) => return,
    };
    let Some(api) = api else { return };
    match api.open().await {
        Ok(mut engine) => {
            // An error is the end of both directions: dropping the streams tells either side.
            let _ = relay(&mut client, &mut engine).await;
        }
        Err(error) => tracing::debug!(%error, "the engine does not take a connection"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::FramedStream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::mpsc;

    /// An engine whose every connection is handed to the test, behind frames as over vsock.
    struct Engine(mpsc::UnboundedSender<FramedStream<DuplexStream>>);

    impl Api for Engine {
        fn open(&self) -> BoxFuture<'_, io::Result<BoxStream>> {
            let (host, guest) = duplex(64);
            self.0.send(FramedStream::new(guest)).unwrap();
            Box::pin(async { Ok(Box::new(FramedStream::new(host)) as BoxStream) })
        }
    }

    fn engine() -> (Backend, mpsc::UnboundedReceiver<FramedStream<DuplexStream>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Some(Arc::new(Engine(sender)) as Arc<dyn Api>), receiver)
    }

    #[tokio::test]
    async fn the_client_may_end_its_side_first_and_still_hears_the_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let (backend, mut connections) = engine();
        let _socket = DockerSocket::bind(&path, watch::channel(backend).1).await.unwrap();
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"input").await.unwrap();
        client.shutdown().await.unwrap();
        let mut engine = connections.recv().await.unwrap();
        let mut input = String::new();
        engine.read_to_string(&mut input).await.unwrap();
        assert_eq!(input, "input");
        engine.write_all(b"output").await.unwrap();
        engine.shutdown().await.unwrap();
        let mut output = String::new();
        client.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "output");
    }

    #[tokio::test]
    async fn the_engine_may_end_its_side_first_and_still_hears_the_client() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let (backend, mut connections) = engine();
        let _socket = DockerSocket::bind(&path, watch::channel(backend).1).await.unwrap();
        let mut client = UnixStream::connect(&path).await.unwrap();
        let mut engine = connections.recv().await.unwrap();
        engine.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        client.write_all(b"late").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        engine.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "late");
    }

    #[tokio::test]
    async fn a_client_that_comes_too_early_waits_for_the_engine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let (sender, receiver) = watch::channel(None);
        let _socket = DockerSocket::bind(&path, receiver).await.unwrap();
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"x").await.unwrap();
        let (backend, mut connections) = engine();
        sender.send_replace(backend);
        assert_eq!(connections.recv().await.unwrap().read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_respected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/docker.sock");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_sender, receiver) = watch::channel(None);
        let socket = DockerSocket::bind(&path, receiver.clone()).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let failure = DockerSocket::bind(&path, receiver).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Busy);
        assert!(failure.message.contains("is served by another program"), "{failure}");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        fs::write(&path, "mine").unwrap();
        let failure = DockerSocket::bind(&path, watch::channel(None).1).await.unwrap_err();
        assert_eq!((failure.kind, fs::read_to_string(&path).unwrap().as_str()), (FailureKind::Busy, "mine"));
    }
}
