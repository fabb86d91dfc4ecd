//! TLS as libpq has it: `sslmode`, `sslrootcert`, `sslcert` and `sslkey`, in the URL or as options of these names.
//!
//! ```text
//! disable      none
//! prefer       if the server has it; its certificate is not looked at (this is the default)
//! require      always; the certificate is looked at as with verify-ca if sslrootcert is given
//! verify-ca    the certificate must be signed by one in sslrootcert
//! verify-full  and be for the host of the URL
//! ```
//!
//! `sslrootcert` is a file of certificates in PEM, or `system`: those that the machine trusts, with verify-full.

use std::sync::Arc;

use millrace_core::connector::Options;
use millrace_core::{Error, Result};
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::TLS_NAMES;
use crate::pem;

/// How much a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    const ALL: [(&'static str, Mode); 5] = [
        ("disable", Mode::Disable),
        ("prefer", Mode::Prefer),
        ("require", Mode::Require),
        ("verify-ca", Mode::VerifyCa),
        ("verify-full", Mode::VerifyFull),
    ];
}

/// What is asked for. Files are read when a connection is made, so that they may be renewed while a job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    mode: Mode,
    roots: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

/// The value of `sslrootcert` that stands for what the machine trusts.
const SYSTEM: &str = "system";

impl Tls {
    /// Takes the options of TLS; those that the URL has must not be given again.
    pub(super) fn take(options: &mut Options, in_url: [Option<String>; 4]) -> Result<Self> {
        let mut values = in_url;
        for (value, name) in values.iter_mut().zip(TLS_NAMES) {
            match (&value, options.text(name)) {
                (_, None) => {}
                (None, given) => *value = given,
                (Some(_), Some(_)) => {
                    return Err(refused(format!("`{name}` is in option `url` and is an option as well")));
                }
            }
        }
        let [mode, roots, certificate, key] = values;
        let is_system = roots.as_deref() == Some(SYSTEM);
        let mode = match mode {
            None if is_system => Mode::VerifyFull,
            None => Mode::Prefer,
            Some(text) => {
                let found = Mode::ALL.iter().find(|(name, _)| *name == text);
                let names = Mode::ALL.map(|(name, _)| name).join(", ");
                found
                    .map(|(_, mode)| *mode)
                    .ok_or_else(|| refused(format!("`sslmode` is `{text}`, not one of {names}")))?
            }
        };
        if is_system && mode != Mode::VerifyFull {
            return Err(refused(
                "`sslrootcert` = `system` needs `sslmode` = `verify-full`".to_owned(),
            ));
        }
        if matches!(mode, Mode::VerifyCa | Mode::VerifyFull) && roots.is_none() {
            let message = "`sslmode` asks for a check of the server's certificate, and `sslrootcert` is missing: a file of \
                certificates that are trusted, or `system`";
            return Err(refused(message.to_owned()));
        }
        if certificate.is_some() != key.is_some() {
            return Err(refused("`sslcert` and `sslkey` belong together".to_owned()));
        }
        Ok(Tls {
            mode,
            roots,
            certificate,
            key,
        })
    }

    /// What the client knows of it.
    pub(super) fn client_mode(&self) -> postgres::config::SslMode {
        match self.mode {
            Mode::Disable => postgres::config::SslMode::Disable,
            Mode::Prefer => postgres::config::SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => postgres::config::SslMode::Require,
        }
    }

    /// What makes connections.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let config = config.map_err(|error| Error::internal(format!("TLS is not there: {error}")))?;
        let config = config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.verifier(provider)?));
        let mut config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates("sslcert", certificate)?;
                let key = pem::key(key).map_err(|why| unreadable("sslkey", key, &why))?;
                let config = config.with_client_auth_cert(chain, key);
                config.map_err(|error| refused(format!("`sslcert` and `sslkey` do not fit: {error}")))?
            }
            _ => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(MakeRustlsConnect::new(config))
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Verifier> {
        let mode = match (self.mode, &self.roots) {
            (Mode::Require, Some(_)) => Mode::VerifyCa,
            (mode, _) => mode,
        };
        let roots = match (&self.roots, mode) {
            (Some(roots), Mode::VerifyCa | Mode::VerifyFull) if roots == SYSTEM => {
                let found = rustls_native_certs::load_native_certs();
                if found.certs.is_empty() {
                    return Err(refused(
                        "`sslrootcert` = `system`: this machine trusts no certificates".to_owned(),
                    ));
                }
                found.certs
            }
            (Some(path), Mode::VerifyCa | Mode::VerifyFull) => certificates("sslrootcert", path)?,
            _ => Vec::new(),
        };
        let chain = match mode {
            Mode::VerifyCa | Mode::VerifyFull => {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(roots.iter().cloned());
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone());
                let verifier = verifier.build();
                Some(verifier.map_err(|error| refused(format!("`sslrootcert` cannot be used: {error}")))?)
            }
            Mode::Disable | Mode::Prefer | Mode::Require => None,
        };
        Ok(Verifier {
            provider,
            chain,
            roots,
            names: mode == Mode::VerifyFull,
        })
    }
}

fn refused(message: String) -> Error {
    Error::user("CN0124", message)
}

fn unreadable(option: &str, path: &str, error: &dyn std::fmt::Display) -> Error {
    refused(format!("`{option}`: `{path}` cannot be read: {error}"))
}

fn certificates(option: &str, path: &str) -> Result<Vec<CertificateDer<'static>>> {
    pem::certificates(path).map_err(|why| unreadable(option, path, &why))
}

/// Looks at the server's certificate as far as the mode asks for.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None`: any certificate will do.
    chain: Option<Arc<WebPkiServerVerifier>>,
    roots: Vec<CertificateDer<'static>>,
    /// It must be for the host.
    names: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        // One that signed itself is its own authority: it is trusted if it is in the file.
        if self.roots.iter().any(|root| root.as_ref() == certificate.as_ref()) {
            if self.names {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, host)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        // The name is looked at last: where it is at fault, all else is right.
        let verified = chain.verify_server_cert(certificate, intermediates, host, ocsp, now);
        match verified {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::options;

    fn take(pairs: &[(&str, &str)]) -> Result<Tls> {
        Tls::take(&mut options(pairs), Default::default())
    }

    #[test]
    fn modes_ask_for_what_they_need() {
        let mode = |pairs: &[(&str, &str)]| take(pairs).map(|tls| tls.mode);
        assert_eq!(mode(&[]).unwrap(), Mode::Prefer);
        assert_eq!(mode(&[("sslrootcert", "system")]).unwrap(), Mode::VerifyFull);
        assert_eq!(mode(&[("sslmode", "require")]).unwrap(), Mode::Require);
        let check = |pairs: &[(&str, &str)], part: &str| {
            let error = take(pairs).unwrap_err();
            assert_eq!(error.code(), "CN0124");
            assert!(error.to_string().contains(part), "{error}");
        };
        check(&[("sslmode", "allow")], "verify-full");
        check(&[("sslmode", "verify-ca")], "`sslrootcert` is missing");
        check(&[("sslmode", "require"), ("sslrootcert", "system")], "verify-full");
        check(&[("sslcert", "a")], "belong together");
        let mut again = options(&[("sslmode", "disable")]);
        let in_url = [Some("require".to_owned()), None, None, None];
        assert_eq!(Tls::take(&mut again, in_url).unwrap_err().code(), "CN0124");
    }

    #[test]
    fn files_are_named() {
        let missing = take(&[("sslmode", "verify-ca"), ("sslrootcert", "/nowhere/ca.pem")]).unwrap();
        let error = missing.connector().err().unwrap();
        assert!(error.to_string().contains("`/nowhere/ca.pem`"), "{error}");
    }
}
