//! The checks that need the disk: whether the files and directories that a configuration names can
//! be used.

use std::fs::File;
use std::io;
use std::path::Path;

use ocserv_agent_model::error_chain;
use tls::{Expiry, ExpiryStage};

use super::schema::Config;
use super::tls_files::TlsFiles;
use crate::clock;

/// The findings of [`preflight`].
#[derive(Debug, Default)]
pub struct Preflight {
    /// What keeps the agent from starting: key, and a fragment that fits after it.
    pub problems: Vec<(String, String)>,
    /// What the agent starts with all the same, because it decides logins by what it knows: key,
    /// and a fragment that fits after it. Certificates that have expired, and a policy file that
    /// cannot be used while there is a copy of the last good policy.
    pub tolerated: Vec<(String, String)>,
    /// What works but is hardly meant, such as a key that everyone can read; one line each.
    pub warnings: Vec<String>,
}

/// Checks the files and directories that `config` names. Relative paths are left to the check of
/// values, which refuses them. Blocks on the disk.
#[must_use]
pub fn preflight(config: &Config) -> Preflight {
    let mut findings = Preflight::default();
    if let Some(tls) = &config.portal.tls {
        findings.identity("portal.tls", &tls.files());
    }
    if let Some(grpc) = &config.grpc {
        findings.identity("grpc.tls", &grpc.tls);
        if grpc.roles.is_empty() {
            let warning = "grpc.roles is empty: every RPC but health is refused";
            findings.warnings.push(warning.to_owned());
        }
    }
    if let (true, Some(path)) = (config.portal.is_embedded(), &config.portal.policy_file) {
        findings.policy_file(path, &config.state_dir);
    }
    findings.state_dir(&config.state_dir);
    findings
}

impl Preflight {
    fn problem(&mut self, key: &str, what: String) {
        self.problems.push((key.to_owned(), what));
    }

    fn identity(&mut self, section: &str, files: &TlsFiles) {
        let mut usable = true;
        for (key, path) in files.by_key() {
            if !path.is_absolute() {
                usable = false;
            } else if let Err(what) = is_readable_file(path) {
                usable = false;
                self.problem(&format!("{section}.{key}"), format!("{} {what}", path.display()));
            }
        }
        if !usable {
            return;
        }
        match tls::Identity::load(&files.identity()) {
            Ok(identity) => {
                let warnings = identity.warnings().iter();
                self.warnings
                    .extend(warnings.map(|warning| format!("{section}: {warning}")));
                self.expiry(&format!("{section}.cert"), identity.certificate(), true);
                self.expiry(&format!("{section}.ca"), identity.ca(), false);
            }
            Err(error) => self.problem(section, error_chain(&error)),
        }
    }

    /// One expired CA among others is no problem: the peers may use another.
    fn expiry(&mut self, key: &str, expiry: &Expiry, is_own: bool) {
        let now = clock::wall();
        let text = format!("{} {}", expiry.path.display(), expiry.describe(now));
        match expiry.stage(now) {
            None => {}
            Some(ExpiryStage::Expired) if is_own => self.tolerated.push((key.to_owned(), text)),
            Some(_) => self.warnings.push(format!("{key}: {text}")),
        }
    }

    fn policy_file(&mut self, path: &Path, state_dir: &Path) {
        const KEY: &str = "portal.policy_file";
        if !path.is_absolute() {
            return;
        }
        let Err(error) = policy::PolicyFile::open(path) else {
            return;
        };
        let error = error_chain(&error);
        match policy::PolicyCopy::in_directory(state_dir).load() {
            Ok(Some(_)) => self.tolerated.push((KEY.to_owned(), error)),
            Ok(None) => self.problem(KEY, error),
            Err(copy) => self.problem(KEY, format!("{error}; {}", error_chain(&copy))),
        }
    }

    /// A missing directory is created at the start; a bad one costs the stored decisions alone.
    fn state_dir(&mut self, path: &Path) {
        let what = match path.metadata() {
            Ok(meta) if meta.is_dir() => return,
            Ok(_) => "is not a directory".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => format!("cannot be used: {error}"),
        };
        self.warnings.push(format!(
            "state_dir: {} {what}: decisions would be lost in a restart",
            path.display()
        ));
    }
}

fn is_readable_file(path: &Path) -> Result<(), String> {
    match File::open(path).and_then(|file| file.metadata()) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err("is not a file".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}
