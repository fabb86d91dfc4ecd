//! TLS of `rediss://`: whose certificates are trusted, and which one is shown. Without `ca.file` it is those that the machine
//! trusts (`SSL_CERT_FILE`, `SSL_CERT_DIR`). There is no way to have a server's certificate not looked at.

use millrace_core::connector::Options;
use millrace_core::{Error, Result};
use redis::{ClientTlsConfig, ConnectionAddr, TlsCertificates};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What is asked for. Files are read when a connection is made, so that they may be renewed while a job runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Tls {
    ca: Option<String>,
    /// Files of a certificate and of its key.
    own: Option<(String, String)>,
}

impl Tls {
    /// Takes the options `ca.file`, `certificate.file` and `key.file`.
    pub(super) fn take(options: &mut Options) -> Result<Self> {
        let ca = options.text("ca.file");
        let own = match (options.text("certificate.file"), options.text("key.file")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(refused("options `certificate.file` and `key.file` belong together")),
        };
        Ok(Tls { ca, own })
    }

    /// Whether it fits what the URL says.
    pub(super) fn check(&self, address: &ConnectionAddr) -> Result<()> {
        match address {
            ConnectionAddr::TcpTls { insecure: true, .. } => Err(refused(
                "option `url` ends with `#insecure`: a server's certificate is always looked at; its authority is given by \
                 option `ca.file`",
            )),
            ConnectionAddr::TcpTls { .. } => Ok(()),
            _ if self.ca.is_some() || self.own.is_some() => Err(refused(
                "options `ca.file`, `certificate.file` and `key.file` are for connections with TLS: option `url` begins with \
                 `rediss://`",
            )),
            _ => Ok(()),
        }
    }

    /// What is in the files.
    pub(super) fn read(&self) -> Result<TlsCertificates> {
        let ca = self.ca.as_deref().map(|path| certificates("ca.file", path));
        let own = self.own.as_ref().map(|(certificate, key)| {
            Ok::<_, Error>(ClientTlsConfig {
                client_cert: certificates("certificate.file", certificate)?,
                client_key: private_key(key)?,
            })
        });
        Ok(TlsCertificates {
            client_tls: own.transpose()?,
            root_cert: ca.transpose()?,
        })
    }
}

pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::user("CN0146", message)
}

fn unreadable(option: &str, path: &str, error: &dyn std::fmt::Display) -> Error {
    refused(format!("option `{option}`: `{path}` cannot be read: {error}"))
}

/// A file of certificates in PEM, at least one.
fn certificates(option: &str, path: &str) -> Result<Vec<u8>> {
    let text = std::fs::read(path).map_err(|error| unreadable(option, path, &error))?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<std::result::Result<Vec<_>, _>>();
    match found {
        Ok(found) if found.is_empty() => Err(unreadable(option, path, &"there are no certificates in it")),
        Ok(_) => Ok(text),
        Err(error) => Err(unreadable(option, path, &error)),
    }
}

fn private_key(path: &str) -> Result<Vec<u8>> {
    let text = std::fs::read(path).map_err(|error| unreadable("key.file", path, &error))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| unreadable("key.file", path, &error))?;
    Ok(text)
}
