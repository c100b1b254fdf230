//! The PEM files of a TLS identity.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::checker::Checker;

/// The three PEM files of a TLS identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The CA certificates that the peer's certificate is verified against.
    pub ca: PathBuf,
    /// The agent's certificate, with its intermediates after it.
    pub cert: PathBuf,
    /// The agent's private key.
    pub key: PathBuf,
}

impl TlsFiles {
    pub(super) fn check(&self, section: &str, checker: &mut Checker) {
        for (key, path) in self.by_key() {
            checker.absolute(&format!("{section}.{key}"), path);
        }
    }

    /// The files by the keys that name them.
    pub(super) fn by_key(&self) -> [(&'static str, &Path); 3] {
        [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)]
    }

    /// The files as `tls` takes them.
    #[must_use]
    pub fn identity(&self) -> tls::IdentityFiles {
        tls::IdentityFiles {
            ca: self.ca.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
        }
    }
}
