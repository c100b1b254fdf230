//! Certificates for one test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tls::IdentityFiles;

pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }
}

/// The three files of an identity in a temporary directory.
pub(crate) struct Files {
    dir: TempDir,
}

impl Files {
    /// A certificate for `name` from `issuer`, and `trusted` as the trusted CA.
    pub(crate) fn new(trusted: &Ca, issuer: &Ca, name: &str) -> Self {
        let files = Self {
            dir: TempDir::new().unwrap(),
        };
        write(&files.paths().ca, &trusted.0.pem());
        files.issue(issuer, name);
        files
    }

    /// Replaces certificate and key.
    pub(crate) fn issue(&self, issuer: &Ca, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        write(
            &self.paths().cert,
            &params.signed_by(&key, &issuer.0).unwrap().pem(),
        );
        write(&self.paths().key, &key.serialize_pem());
    }

    pub(crate) fn paths(&self) -> IdentityFiles {
        let path = |name| self.dir.path().join(name);
        IdentityFiles {
            ca: path("ca.pem"),
            cert: path("cert.pem"),
            key: path("key.pem"),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own files need not outlive a crash"
)]
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
