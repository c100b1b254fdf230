//! Certificates for tests, valid and invalid. Private keys are files that only their owner may
//! read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a certificate could not be issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The parameters or the signature failed.
    #[error("could not make a certificate for {name}")]
    Certificate {
        /// Its subject.
        name: String,
        /// The cause.
        #[source]
        source: rcgen::Error,
    },
    /// A file could not be written.
    #[error("could not write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The files of one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate authority that it trusts.
    pub ca: PathBuf,
    /// Its certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The period for which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// From yesterday for a year.
    Now,
    /// Until yesterday.
    Expired,
    /// From tomorrow.
    NotYet,
    /// From yesterday until this time from now.
    For(Duration),
}

impl Validity {
    fn bounds(self) -> (SystemTime, SystemTime) {
        let now = SystemTime::now();
        match self {
            Self::Now => (now - DAY, now + 365 * DAY),
            Self::Expired => (now - 10 * DAY, now - DAY),
            Self::NotYet => (now + DAY, now + 30 * DAY),
            Self::For(left) => (now - DAY, now + left),
        }
    }
}

/// A certificate authority that writes the identities that it issues to a directory.
#[derive(Debug)]
pub struct Pki {
    directory: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
    ca: PathBuf,
}

impl Pki {
    /// Creates the authority `lab CA`, with its certificate in `directory/ca.pem`.
    ///
    /// # Errors
    /// When the certificate or the file cannot be created.
    pub fn create(directory: &Path) -> Result<Self, PkiError> {
        Self::named(directory, "ca", "lab CA")
    }

    /// Creates another authority in the same directory, which no other identity trusts.
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

    /// Returns the path of the authority's certificate.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Issues an identity for servers and clients, in `file.pem` and `file.key`, replacing an
    /// earlier one. `names` are DNS names and IP addresses, or have their type before them:
    /// `uri:`, `email:`, or `dns:` for text that reads as an address.
    ///
    /// # Errors
    /// When a name is not valid, or a file cannot be written.
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

    /// Issues the portal's identity, with its names and addresses in a lab and on loopback.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn portal(&self) -> Result<Issued, PkiError> {
        self.issue("portal", &PORTAL_NAMES, Validity::Now)
    }

    /// Issues the agent's identity.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn agent(&self) -> Result<Issued, PkiError> {
        self.issue("agent", &AGENT_NAMES, Validity::Now)
    }
}

/// The names in the portal's certificate; the first is the common name.
pub const PORTAL_NAMES: [&str; 5] = ["portal.lab", "localhost", "127.0.0.1", "10.78.0.2", "fd78::2"];
/// The names in the agent's certificate; the first is the common name.
pub const AGENT_NAMES: [&str; 5] = ["agent.lab", "localhost", "127.0.0.1", "10.78.0.1", "fd78::1"];

impl Issued {
    /// Returns the same identity, trusting another authority.
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
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.iter().map(|name| san(name)).collect::<Result<_, _>>()?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let (from, to) = validity.bounds();
    params.not_before = from.into();
    params.not_after = to.into();
    Ok(params)
}

fn san(name: &str) -> Result<SanType, rcgen::Error> {
    Ok(match name.split_once(':') {
        Some(("uri", uri)) => SanType::URI(uri.try_into()?),
        Some(("email", address)) => SanType::Rfc822Name(address.try_into()?),
        Some(("dns", name)) => SanType::DnsName(name.try_into()?),
        _ => match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.try_into()?),
        },
    })
}

/// Replaces a file atomically.
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
