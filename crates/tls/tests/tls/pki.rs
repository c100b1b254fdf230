//! Certificates for one test.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tls::IdentityFiles;

/// A self-signed CA.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A leaf certificate and its key, PEM.
pub(crate) struct Leaf {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn leaf(&self, name: &str) -> Leaf {
        self.leaf_with(name, |_| {})
    }

    pub(crate) fn expired_leaf(&self, name: &str) -> Leaf {
        self.leaf_with(name, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 2, 3);
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a certificate that expires during the test"
    )]
    pub(crate) fn leaf_for(&self, name: &str, lifetime: Duration) -> Leaf {
        self.leaf_with(name, |params| {
            params.not_after = (SystemTime::now() + lifetime).into();
        })
    }

    pub(crate) fn leaf_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{name} (cn)"));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Leaf {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// The three files of an identity in a temporary directory.
pub(crate) fn files(ca: &Ca, leaf: &Leaf) -> (TempDir, IdentityFiles) {
    let dir = TempDir::new().unwrap();
    let files = IdentityFiles {
        ca: dir.path().join("ca.pem"),
        cert: dir.path().join("cert.pem"),
        key: dir.path().join("key.pem"),
    };
    write(&files.ca, &ca.pem());
    write(&files.cert, &leaf.cert);
    write(&files.key, &leaf.key);
    (dir, files)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own files need not outlive a crash"
)]
pub(crate) fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
