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
