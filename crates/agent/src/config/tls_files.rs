//! The files of an identity.

use std::fs::File;
use std::path::PathBuf;

use ocserv_agent_model::error_chain;
use serde::{Deserialize, Serialize};

use super::check::Checker;

/// Who the agent is towards a peer, and whom it believes: three PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificates of those who may sign the peer's certificate.
    pub ca: PathBuf,
    /// The agent's certificate, with its intermediates after it.
    pub cert: PathBuf,
    /// The agent's private key.
    pub key: PathBuf,
}

impl TlsFiles {
    pub(super) fn check(&self, section: &str, checker: &mut Checker) {
        let files = [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)];
        let mut readable = true;
        for (key, path) in files {
            let key = format!("{section}.{key}");
            if !checker.absolute(&key, path) {
                readable = false;
                continue;
            }
            let opened = File::open(path).and_then(|file| file.metadata());
            let trouble = match opened {
                Ok(meta) if meta.is_file() => continue,
                Ok(_) => "is not a file".to_owned(),
                Err(err) => format!("cannot be read: {err}"),
            };
            readable = false;
            checker.problem(&key, format!("{} {trouble}", path.display()));
        }
        if readable && let Err(err) = tls::Identity::load(&self.identity()) {
            checker.problem(section, error_chain(&err));
        }
    }

    /// The same as `tls` takes them.
    #[must_use]
    pub fn identity(&self) -> tls::IdentityFiles {
        tls::IdentityFiles {
            ca: self.ca.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
        }
    }
}
