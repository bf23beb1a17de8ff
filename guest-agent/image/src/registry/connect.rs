//! Connections for the HTTP client: dialled by whoever composes the engine, wrapped in TLS here.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::Stream;
use super::proxy::Proxy;
use super::settings::{RegistryConfig, host_of};
use super::verify::Verifier;

/// Opens connections for hyper.
#[derive(Clone)]
pub(super) struct Connector {
    settings: Arc<RegistryConfig>,
    /// Reading the system's authorities takes milliseconds: once per host.
    configs: Arc<Mutex<HashMap<String, Arc<ClientConfig>>>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Dial(io::Error),
    #[error("{0}")]
    Tls(io::Error),
    #[error("no answer")]
    TimedOut,
}

/// A connection, plain or not.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    /// At its other end is a proxy, which must be told whole addresses.
    proxied: bool,
}

impl Connector {
    pub(super) fn new(settings: Arc<RegistryConfig>) -> Connector {
        Connector { settings, configs: Arc::default() }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<Wire>, ConnectError> {
        let limit = self.settings.connect_timeout;
        match tokio::time::timeout(limit, self.connect_slowly(&uri)).await {
            Ok(outcome) => outcome.map(TokioIo::new),
            Err(_) => Err(ConnectError::TimedOut),
        }
    }

    async fn connect_slowly(&self, uri: &Uri) -> Result<Wire, ConnectError> {
        let https = uri.scheme_str() == Some("https");
        let host = host_of(uri.host().unwrap_or_default()).to_owned();
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let proxy = self.settings.proxies.of(https, &host, port);
        let stream = match &proxy {
            None => self.settings.dial.dial(&host, port).await.map_err(ConnectError::Dial)?,
            Some(proxy) => {
                let mut stream = self.to_proxy(proxy).await?;
                if https {
                    proxy.tunnel(&mut stream, &host, port).await.map_err(ConnectError::Dial)?;
                }
                stream
            }
        };
        if !https {
            return Ok(Wire { stream, proxied: proxy.is_some() });
        }
        let domain = uri.authority().map_or(host.as_str(), http::uri::Authority::as_str);
        let stream = self.wrap(domain, host.clone(), stream).await?;
        Ok(Wire { stream, proxied: false })
    }

    async fn to_proxy(&self, proxy: &Proxy) -> Result<Box<dyn Stream>, ConnectError> {
        let stream = self.settings.dial.dial(&proxy.host, proxy.port).await.map_err(ConnectError::Dial)?;
        if !proxy.https {
            return Ok(stream);
        }
        self.wrap(&format!("{}:{}", proxy.host, proxy.port), proxy.host.clone(), stream).await
    }

    /// Speaks TLS on a stream, as the certificates for `domain` demand.
    async fn wrap(
        &self,
        domain: &str,
        host: String,
        stream: Box<dyn Stream>,
    ) -> Result<Box<dyn Stream>, ConnectError> {
        let config = self.tls(domain).map_err(ConnectError::Tls)?;
        let name = ServerName::try_from(host)
            .map_err(|error| ConnectError::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
        Ok(Box::new(stream.map_err(ConnectError::Tls)?))
    }

    fn tls(&self, domain: &str) -> io::Result<Arc<ClientConfig>> {
        let known = self.configs.lock().unwrap_or_else(PoisonError::into_inner).get(domain).cloned();
        if let Some(config) = known {
            return Ok(config);
        }
        let config = Arc::new(build(&self.settings, domain)?);
        self.configs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(domain.to_owned(), Arc::clone(&config));
        Ok(config)
    }
}

fn build(settings: &RegistryConfig, domain: &str) -> io::Result<ClientConfig> {
    let invalid =
        |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(&error))?;
    let own = settings.certificates.get(domain).or_else(|| settings.certificates.get(host_of(domain)));
    let builder = if settings.is_insecure(domain) {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier::of_anyone(provider)))
    } else {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let mut listed = Vec::new();
        let custom = own.map(|own| own.authorities.as_slice()).unwrap_or_default();
        for pem in [settings.authorities.as_slice(), custom] {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| invalid(&error))?;
                roots.add(certificate.clone()).map_err(|error| invalid(&error))?;
                listed.push(certificate);
            }
        }
        let verifier = Verifier::of_listed(roots, listed, provider).map_err(|error| invalid(&error))?;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
    };
    let mut config = match own.and_then(|own| own.client.as_ref()) {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let chain = CertificateDer::pem_slice_iter(&client.chain)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| invalid(&error))?;
            let key = PrivateKeyDer::from_pem_slice(&client.key).map_err(|error| invalid(&error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| invalid(&error))?
        }
    };
    // Layers arrive in parallel: a connection each is faster than one that shares HTTP/2's flow control.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<TokioIo<Wire>, ConnectError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
