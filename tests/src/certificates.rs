//! Certificates for tests: an authority of one's own and what it signs, as files.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// An authority that nobody else trusts.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

/// A certificate and its key, in files.
pub struct Certified {
    /// File of the certificate.
    pub certificate: PathBuf,
    /// File of the key.
    pub key: PathBuf,
}

impl Authority {
    /// One whose files go into this folder.
    pub fn new(folder: &Path, name: &str) -> Authority {
        let mut parameters = parameters(name, &[]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, key()).expect("an authority");
        let file = folder.join(format!("{name}.pem"));
        std::fs::write(&file, issuer.pem()).expect("a file in a folder of ours");
        Authority { issuer, file }
    }

    /// File of its certificate.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A certificate of this common name, for these hosts.
    pub fn certify(&self, name: &str, hosts: &[&str]) -> Certified {
        let key = key();
        let certificate = parameters(name, hosts)
            .signed_by(&key, &self.issuer)
            .expect("a certificate");
        let certified = Certified {
            certificate: self.file.with_file_name(format!("{name}.crt")),
            key: self.file.with_file_name(format!("{name}.key")),
        };
        std::fs::write(&certified.certificate, certificate.pem()).expect("a file in a folder of ours");
        std::fs::write(&certified.key, key.serialize_pem()).expect("a file in a folder of ours");
        certified
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn parameters(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut parameters = CertificateParams::new(hosts).expect("names of hosts");
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}
