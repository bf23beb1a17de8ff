//! The sockets of the API: `unix://` with the rights that dockerd gives, `tcp://` with or without TLS.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use api::{Api, Opaque};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;
/// A client that is slow to greet must not hold a connection for ever.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(String),
}

impl Address {
    /// Reads an address of `--host`.
    pub(crate) fn parse(text: &str, with_tls: bool) -> anyhow::Result<Address> {
        if let Some(path) = text.strip_prefix("unix://") {
            let path = if path.is_empty() { DEFAULT_SOCKET } else { path };
            return Ok(Address::Unix(path.into()));
        }
        if text.starts_with('/') {
            return Ok(Address::Unix(text.into()));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            bail!("unable to parse docker host `{text}`: it starts with unix:// or tcp://");
        };
        if scheme != "tcp" {
            bail!("unable to parse docker host `{text}`: invalid protocol `{scheme}`, use unix:// or tcp://");
        }
        let port = if with_tls { TLS_PORT } else { PLAIN_PORT };
        let rest = rest.trim_end_matches('/');
        Ok(Address::Tcp(match rest.rsplit_once(':') {
            Some(("", port)) => format!("0.0.0.0:{port}"),
            // A colon inside brackets belongs to an IPv6 address.
            Some((_, port)) if !port.contains(']') => rest.to_owned(),
            _ if rest.is_empty() => format!("127.0.0.1:{port}"),
            _ => format!("{rest}:{port}"),
        }))
    }
}

/// A socket that is bound. Connections to it wait until it is served.
pub(crate) enum Listener {
    Unix { listener: UnixListener, path: PathBuf },
    Tcp { listener: TcpListener, tls: Option<TlsAcceptor> },
}

impl Listener {
    /// Binds an address.
    pub(crate) async fn bind(
        address: &Address,
        group: &str,
        tls: Option<&TlsAcceptor>,
    ) -> anyhow::Result<Listener> {
        match address {
            Address::Unix(path) => {
                let listener = bind_unix(path, group)
                    .with_context(|| format!("cannot listen on `{}`", path.display()))?;
                Ok(Listener::Unix { listener, path: path.clone() })
            }
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address)
                    .await
                    .with_context(|| format!("cannot listen on `{address}`"))?;
                if tls.is_none() {
                    tracing::warn!(
                        "the API on tcp://{address} is open to all who reach it: they are root here"
                    );
                }
                Ok(Listener::Tcp { listener, tls: tls.cloned() })
            }
        }
    }

    /// As a client would write it.
    pub(crate) fn address(&self) -> String {
        match self {
            Listener::Unix { path, .. } => format!("unix://{}", path.display()),
            Listener::Tcp { listener, .. } => {
                let address = listener.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
                format!("tcp://{address}")
            }
        }
    }

    /// Serves connections, each in a task of its own.
    pub(crate) async fn serve(&self, api: Api) {
        loop {
            if let Err(error) = self.accept_one(&api).await {
                // Out of descriptors, most likely: others must close some first.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn accept_one(&self, api: &Api) -> io::Result<()> {
        let api = api.clone();
        match self {
            Listener::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(async move { api.serve_connection(stream).await });
            }
            Listener::Tcp { listener, tls: None } => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(async move { api.serve_connection(Opaque(stream)).await });
            }
            Listener::Tcp { listener, tls: Some(tls) } => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let greeting = tls.accept(stream);
                tokio::spawn(async move {
                    match tokio::time::timeout(HANDSHAKE, greeting).await {
                        Ok(Ok(stream)) => api.serve_connection(Opaque(stream)).await,
                        Ok(Err(error)) => tracing::info!(%error, "refused the TLS client {peer}"),
                        Err(_) => tracing::info!("the TLS client {peer} did not greet in time"),
                    }
                });
            }
        }
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix { path, .. } = self {
            // Somebody may have removed it already.
            let _ = fs::remove_file(path);
        }
    }
}

fn bind_unix(path: &Path, group: &str) -> anyhow::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    clear_leftover(path)?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    if let Some(group) = group_number(&groups, group) {
        std::os::unix::fs::chown(path, None, Some(group))?;
    }
    Ok(listener)
}

/// Removes a socket that nobody listens on any more. One that somebody does is theirs, and a file of another kind
/// is not ours to remove.
fn clear_leftover(path: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(found) if !found.file_type().is_socket() => bail!("there is a file that is no socket"),
        Ok(_) => {}
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!("another engine listens there");
    }
    Ok(fs::remove_file(path)?)
}

/// A group's number, by its name in the text of `/etc/group` or as a number.
fn group_number(groups: &str, wanted: &str) -> Option<u32> {
    let by_name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(wanted)).then(|| fields.nth(1)?.parse().ok())?
    });
    by_name.or_else(|| wanted.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_dockerd_reads_them() {
        let unix = |path: &str| Address::Unix(path.into());
        let tcp = |address: &str| Address::Tcp(address.into());
        for (text, with_tls, expected) in [
            ("unix:///x/y.sock", false, unix("/x/y.sock")),
            ("unix://", false, unix(DEFAULT_SOCKET)),
            ("unix://relative.sock", false, unix("relative.sock")),
            ("tcp://127.0.0.1:99", false, tcp("127.0.0.1:99")),
            ("tcp://:99", false, tcp("0.0.0.0:99")),
            ("tcp://0.0.0.0", true, tcp("0.0.0.0:2376")),
            ("tcp://[::1]", false, tcp("[::1]:2375")),
            ("tcp://[::1]:7/", false, tcp("[::1]:7")),
        ] {
            assert_eq!(Address::parse(text, with_tls).unwrap(), expected, "{text}");
        }
        for bad in ["fd://", "npipe://x", "nonsense"] {
            assert!(Address::parse(bad, false).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_leftover_socket_is_replaced_and_one_in_use_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = bind_unix(&path, "no such group").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let error = bind_unix(&path, "docker").unwrap_err();
        assert!(error.to_string().contains("another engine"), "{error}");
        drop(listener);
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        fs::write(&path, "precious").unwrap();
        assert!(bind_unix(&path, "docker").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn groups_are_found_by_name_and_by_number() {
        let groups = "root:x:0:\ndocker:x:994:me\n";
        assert_eq!(group_number(groups, "docker"), Some(994));
        assert_eq!(group_number(groups, "12"), Some(12));
        assert_eq!(group_number(groups, "nobody"), None);
    }
}
