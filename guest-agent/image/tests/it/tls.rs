//! Pulls over TLS, from a host that only the test's own dialler knows.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use image::{Dial, HostCertificates, Stream};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::fixture::{Home, small};
use crate::server::{Server, good};

/// Leads every host to one address.
struct Everywhere(SocketAddr);

impl Dial for Everywhere {
    fn dial<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(
            async move { Ok(Box::new(tokio::net::TcpStream::connect(self.0).await?) as Box<dyn Stream>) },
        )
    }
}

/// A self-signed certificate for `registry.example`, its own authority, and an acceptor with it.
fn certificate() -> Option<(Vec<u8>, TlsAcceptor)> {
    if !Path::new("/usr/bin/openssl").exists() {
        eprintln!("SKIPPED: openssl is not installed");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let made = Command::new("/usr/bin/openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=registry.example", "-addext", "subjectAltName=DNS:registry.example"])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(directory.path())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let pem = std::fs::read(directory.path().join("certificate.pem")).unwrap();
    let key = std::fs::read(directory.path().join("key.pem")).unwrap();
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(&key).unwrap())
        .unwrap();
    Some((pem, TlsAcceptor::from(Arc::new(config))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_checked_unless_its_authority_or_its_host_was_named() {
    let Some((authority, acceptor)) = certificate() else { return };
    let image = small(b"over tls");
    let server = Server::start_with(Some(acceptor), move |request, _| good(&image, request)).await;
    let home = Home::new();
    let name = "registry.example/app:1";
    let dial = || Arc::new(Everywhere(server.address));
    let (_, refused) = home.pull_with(name, |request| request.registries.dial = dial()).await;
    let refused = refused.unwrap_err();
    assert!(refused.contains("tls:") && refused.contains("registry.example"), "{refused}");
    home.assert_empty();

    let named = HostCertificates { authorities: authority, client: None };
    let (_, trusted) = home
        .pull_with(name, |request| {
            request.registries.dial = dial();
            request.registries.certificates = [("registry.example".to_owned(), named)].into();
        })
        .await;
    trusted.unwrap();

    let (_, insecure) = Home::new()
        .pull_with(name, |request| {
            request.registries.dial = dial();
            request.registries.insecure = ["registry.example".to_owned()].into();
        })
        .await;
    insecure.unwrap();
}

/// A proxy that leads every tunnel to one address, and its own; it wants to be told who asks.
async fn proxy(target: SocketAddr) -> SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let head = String::from_utf8(head).unwrap();
                // `me:secret` in base 64.
                let known = head.contains("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n");
                if !known || !head.starts_with("CONNECT registry.example:443 HTTP/1.1\r\n") {
                    return stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
                }
                stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
                let mut onward = tokio::net::TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut onward).await.map(drop)
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn https_goes_through_a_proxys_tunnel() {
    let Some((authority, acceptor)) = certificate() else { return };
    let image = small(b"through a tunnel");
    let server = Server::start_with(Some(acceptor), move |request, _| good(&image, request)).await;
    let proxy = proxy(server.address).await;
    let home = Home::new();
    let pull = async |password: &str| {
        let named = HostCertificates { authorities: authority.clone(), client: None };
        let https = format!("http://me:{password}@{proxy}");
        let through = |request: &mut image::PullRequest| {
            request.registries.certificates = [("registry.example".to_owned(), named)].into();
            request.registries.proxies.https = https;
        };
        home.pull_with("registry.example/app:1", through).await.1
    };
    let refused = pull("wrong").await.unwrap_err();
    assert!(refused.contains("407 Proxy Authentication Required"), "{refused}");
    pull("secret").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_asks_the_proxy_for_whole_addresses() {
    let image = small(b"by way of a proxy");
    let server = Server::start(move |request, _| {
        let mut request = request.clone();
        request.path = request.path.trim_start_matches("http://registry.example").to_owned();
        good(&image, &request)
    })
    .await;
    let through = |request: &mut image::PullRequest| {
        request.registries.insecure = ["registry.example".to_owned()].into();
        request.registries.proxies.http = format!("http://{}", server.address);
        // The way by TLS leads nowhere.
        request.registries.proxies.https = "http://127.0.0.1:1".to_owned();
    };
    Home::new().pull_with("registry.example/app:1", through).await.1.unwrap();
    assert!(server.asked_for("http://registry.example/v2/app/manifests/1") > 0);
}
