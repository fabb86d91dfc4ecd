//! TLS of the source: which certificate it shows, and whose senders must show.

use std::sync::Arc;

use millrace_core::connector::Options;
use millrace_core::{Error, Result};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::settings::refused;
use crate::pem;

/// What is asked for. Files are read when the source begins to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    certificate: String,
    key: String,
    /// Senders show a certificate that one of these has signed; `None`: they need none.
    ca: Option<String>,
}

impl Tls {
    /// Takes the options `certificate.file`, `key.file` and `ca.file`.
    pub(super) fn take(options: &mut Options) -> Result<Option<Self>> {
        let ca = options.text("ca.file");
        match (options.text("certificate.file"), options.text("key.file")) {
            (Some(certificate), Some(key)) => Ok(Some(Tls { certificate, key, ca })),
            (None, None) if ca.is_none() => Ok(None),
            (None, None) => Err(refused(
                "option `ca.file` is for senders that show a certificate, and needs TLS: `certificate.file` and `key.file`",
            )),
            _ => Err(refused("options `certificate.file` and `key.file` belong together")),
        }
    }

    /// What connections are encrypted with.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor> {
        let unreadable = |option: &str, path: &str, why: String| {
            refused(format!("option `{option}`: `{path}` cannot be read: {why}"))
        };
        let certificates = |option, path: &str| pem::certificates(path).map_err(|why| unreadable(option, path, why));
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let config = config.map_err(|error| Error::internal(format!("TLS is not there: {error}")))?;
        let config = match &self.ca {
            None => config.with_no_client_auth(),
            Some(path) => {
                let mut trusted = RootCertStore::empty();
                trusted.add_parsable_certificates(certificates("ca.file", path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider).build();
                let verifier = verifier.map_err(|error| unreadable("ca.file", path, error.to_string()))?;
                config.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates("certificate.file", &self.certificate)?;
        let key = pem::key(&self.key).map_err(|why| unreadable("key.file", &self.key, why))?;
        let config = config.with_single_cert(chain, key);
        let mut config = config.map_err(|error| {
            let message = format!("options `certificate.file` and `key.file` do not fit: {error}");
            refused(message)
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
