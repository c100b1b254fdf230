//! Certificates for tests, the good and the bad. Private keys are files that only their owner may read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The parameters or the signature failed.
    #[error("could not make a certificate for {name}")]
    Certificate {
        /// For whom.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A file could not be written.
    #[error("could not write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The files of one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate authority that its peers are checked against.
    pub ca: PathBuf,
    /// Its certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// From yesterday for a month.
    Now,
    /// It ended yesterday.
    Expired,
    /// It begins tomorrow.
    NotYet,
    /// From yesterday until this much from now.
    For(Duration),
}

impl Validity {
    fn bounds(self) -> (SystemTime, SystemTime) {
        let now = SystemTime::now();
        match self {
            Self::Now => (now - DAY, now + 30 * DAY),
            Self::Expired => (now - 10 * DAY, now - DAY),
            Self::NotYet => (now + DAY, now + 30 * DAY),
            Self::For(left) => (now - DAY, now + left),
        }
    }
}

/// A certificate authority with a directory that its identities are written to.
#[derive(Debug)]
pub struct Pki {
    directory: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
    ca: PathBuf,
}

impl Pki {
    /// Makes the authority `lab CA` with its certificate in `directory/ca.pem`.
    ///
    /// # Errors
    /// When the certificate or the file cannot be made.
    pub fn create(directory: &Path) -> Result<Self, PkiError> {
        Self::named(directory, "ca", "lab CA")
    }

    /// Makes another authority in the same directory, which nobody trusts: its identities are well made and foreign.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn foreign(&self) -> Result<Self, PkiError> {
        Self::named(&self.directory, "foreign-ca", "foreign CA")
    }

    fn named(directory: &Path, name: &str, common_name: &str) -> Result<Self, PkiError> {
        let failed = |source| PkiError::Certificate {
            name: common_name.to_owned(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = parameters(common_name, &[], Validity::Now).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        let ca = directory.join(format!("{name}.pem"));
        write(&ca, &certificate.pem(), 0o644)?;
        Ok(Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
            issuer: Issuer::new(params, key),
            ca,
        })
    }

    /// The file with the authority's certificate.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Issues an identity for servers and clients alike, in `file.pem` and `file.key`; an earlier one of that name is
    /// replaced. `names` are DNS names and IP addresses.
    ///
    /// # Errors
    /// When a name is none, or a file cannot be written.
    pub fn issue(&self, file: &str, names: &[&str], validity: Validity) -> Result<Issued, PkiError> {
        let common_name = names.first().copied().unwrap_or(file);
        let failed = |source| PkiError::Certificate {
            name: common_name.to_owned(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = parameters(common_name, names, validity).map_err(failed)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let stem = if self.name == "ca" {
            file.to_owned()
        } else {
            format!("{}-{file}", self.name)
        };
        let issued = Issued {
            ca: self.ca.clone(),
            cert: self.directory.join(format!("{stem}.pem")),
            key: self.directory.join(format!("{stem}.key")),
        };
        write(&issued.key, &key.serialize_pem(), 0o600)?;
        write(&issued.cert, &certificate.pem(), 0o644)?;
        Ok(issued)
    }

    /// The portal, under the name and the addresses that the lab and loopback know it by.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn portal(&self) -> Result<Issued, PkiError> {
        self.issue("portal", &PORTAL_NAMES, Validity::Now)
    }

    /// The agent.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn agent(&self) -> Result<Issued, PkiError> {
        self.issue("agent", &AGENT_NAMES, Validity::Now)
    }
}

/// What the portal's certificate says; the first is the name.
pub const PORTAL_NAMES: [&str; 5] = ["portal.lab", "localhost", "127.0.0.1", "10.78.0.2", "fd78::2"];
/// What the agent's certificate says; the first is the name.
pub const AGENT_NAMES: [&str; 5] = ["agent.lab", "localhost", "127.0.0.1", "10.78.0.1", "fd78::1"];

impl Issued {
    /// The same identity that trusts another authority.
    #[must_use]
    pub fn trusting(&self, ca: &Path) -> Self {
        Self {
            ca: ca.to_owned(),
            ..self.clone()
        }
    }
}

fn parameters(
    common_name: &str,
    names: &[&str],
    validity: Validity,
) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let (from, to) = validity.bounds();
    params.not_before = from.into();
    params.not_after = to.into();
    Ok(params)
}

/// Replaces a file as a whole, so that a reader sees the old one or the new one.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let failed = |source| PkiError::Write {
        path: path.to_owned(),
        source,
    };
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    options
        .open(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}
