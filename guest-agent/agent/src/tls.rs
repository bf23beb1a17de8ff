//! TLS for the API over TCP: whoever can talk to the engine is root, so a client without a certificate of the
//! named authority gets nowhere.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::options::Options;

/// The acceptor that the options ask for, if they ask for one.
pub(crate) fn acceptor(options: &Options) -> anyhow::Result<Option<TlsAcceptor>> {
    let files = [&options.tlscert, &options.tlskey, &options.tlscacert];
    if !options.tls && !options.tlsverify {
        if files.iter().any(|file| file.is_some()) {
            bail!("--tlscacert, --tlscert and --tlskey have no effect without --tlsverify (or --tls)");
        }
        return Ok(None);
    }
    let (Some(certificate), Some(key)) = (&options.tlscert, &options.tlskey) else {
        bail!("TLS needs --tlscert and --tlskey");
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = if options.tlsverify {
        let Some(authority) = &options.tlscacert else { bail!("--tlsverify needs --tlscacert") };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(authority)? {
            roots.add(certificate).with_context(|| format!("cannot use `{}`", authority.display()))?;
        }
        builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?,
        )
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read the key `{}`", key.display()))?;
    let config = builder
        .with_single_cert(certificates(certificate)?, key)
        .context("the certificate and the key cannot be used together")?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let certificates = read().with_context(|| format!("cannot read the certificate `{}`", path.display()))?;
    if certificates.is_empty() {
        bail!("there is no certificate in `{}`", path.display());
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &[&str]) -> String {
        let arguments: Vec<_> = arguments.iter().map(std::ffi::OsString::from).collect();
        match acceptor(&Options::parse(&arguments).unwrap()) {
            Ok(_) => panic!("not refused"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn half_a_configuration_is_refused() {
        assert!(refusal(&["--tlscert", "/x"]).contains("no effect without --tlsverify"));
        assert!(refusal(&["--tlsverify"]).contains("--tlscert and --tlskey"));
        assert!(refusal(&["--tlsverify", "--tlscert=/x", "--tlskey=/y"]).contains("needs --tlscacert"));
        assert!(refusal(&["--tls", "--tlscert=/nowhere", "--tlskey=/nowhere"]).contains("/nowhere"));
    }

    #[test]
    fn without_options_there_is_no_tls() {
        assert!(acceptor(&Options::parse(&[]).unwrap()).unwrap().is_none());
    }
}
