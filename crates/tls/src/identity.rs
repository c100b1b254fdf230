//! An identity: the certificate that we show, its key, and the CAs that we trust the other side by.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::{ALPN_H2, pem, provider};

/// Where an identity lives. All three are PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The CAs that the peer's certificate must come from: one or more certificates.
    pub ca: PathBuf,
    /// Our certificate, followed by intermediate ones if there are any.
    pub cert: PathBuf,
    /// The key of our certificate: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// No such file.
    #[error("{path}: no such file", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is not ours to read.
    #[error("{path}: no permission to read it", path = path.display())]
    NoPermission {
        /// The file.
        path: PathBuf,
    },
    /// Reading failed in another way.
    #[error("{path}: could not be read", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// More than a PEM file can sensibly hold.
    #[error("{path}: larger than {limit} bytes, so it is no PEM file of ours", path = path.display())]
    TooBig {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// What was looked for is not in the file, or damaged.
    #[error("{path}: no usable {wanted} in PEM form: {problem}", path = path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// PEM, but what is inside is no X.509 certificate that can be used.
    #[error("{path}: certificate {number} in it cannot be used: {problem}", path = path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// Which one in the file, from 1.
        number: usize,
        /// What is wrong.
        problem: String,
    },
    /// The key is of a kind that cannot be used.
    #[error("{path}: the private key cannot be used: {problem}", path = path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The key belongs to another certificate.
    #[error("{key}: is not the key of the certificate in {cert}", key = key.display(), cert = cert.display())]
    WrongKey {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
    /// Our certificate is no longer valid.
    #[error("{path}: the certificate expired on {on}", path = path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// The day, as in `2026-01-31`, UTC.
        on: String,
    },
    /// rustls would not make a configuration of it.
    #[error("the TLS library refuses this identity")]
    Config(#[source] rustls::Error),
}

/// A loaded and checked identity.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    expires: SystemTime,
    expired_on: Option<String>,
    warnings: Vec<String>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("key", &format_args!("[redacted]"))
            .field("expires", &self.expires)
            .field("trusted_cas", &self.roots.len())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the three files and checks that they can work together: the CAs parse, the key is the certificate's. A
    /// certificate that has expired is a warning: peers will refuse it, but the process has other work that must not
    /// stop with it. The time of the check is rustls' own (the system's clock), which also judges the certificates of
    /// peers. Blocks on the disk.
    ///
    /// # Errors
    /// [`IdentityError`] names the file and what is wrong with it.
    pub fn load(files: &IdentityFiles) -> Result<Self, IdentityError> {
        let now = UnixTime::now();
        let mut warnings = Vec::new();
        let roots = roots(&files.ca, now, &mut warnings)?;
        let chain = pem::certificates(&files.cert)?;
        let (key, world_readable) = pem::private_key(&files.key)?;
        if world_readable {
            warnings.push(format!(
                "{}: every user of this machine can read the private key; chmod 0600 it",
                files.key.display()
            ));
        }

        let (mut expires, mut expired_on) = (None, None);
        for (index, der) in chain.iter().enumerate() {
            let parsed = parse(&files.cert, index, der)?;
            let validity = parsed.validity();
            if seconds(validity.not_after) < now.as_secs() {
                let on = day(validity.not_after);
                let path = files.cert.display();
                warnings.push(format!(
                    "{path}: the certificate expired on {on}: every peer will refuse it"
                ));
                expired_on = Some(on);
            }
            if seconds(validity.not_before) > now.as_secs() {
                let from = day(validity.not_before);
                warnings.push(format!(
                    "{}: not valid before {from}; is the clock right?",
                    files.cert.display()
                ));
            }
            let until = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds(validity.not_after));
            expires = Some(expires.map_or(until, |sooner: SystemTime| sooner.min(until)));
        }

        let provider = provider();
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| IdentityError::BadKey {
                path: files.key.clone(),
                problem: error.to_string(),
            })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(IdentityError::WrongKey {
                    key: files.key.clone(),
                    cert: files.cert.clone(),
                });
            }
            Err(error) => {
                return Err(IdentityError::BadKey {
                    path: files.key.clone(),
                    problem: error.to_string(),
                });
            }
        }
        Ok(Self {
            certified: Arc::new(certified),
            roots: Arc::new(roots),
            provider,
            // `pem::certificates` never returns an empty chain.
            expires: expires.unwrap_or(SystemTime::UNIX_EPOCH),
            expired_on,
            warnings,
        })
    }

    /// The day on which our certificate expired, as in `2026-01-31`; `None` while it is valid.
    pub(crate) fn expired_on(&self) -> Option<&str> {
        self.expired_on.as_deref()
    }

    /// How we dial: the server must prove its name with a certificate of our CAs, and we show ours.
    ///
    /// # Errors
    /// When rustls refuses the identity.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, IdentityError> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(IdentityError::Config)?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_cert_resolver(self.resolver());
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// How we serve: no client without a certificate of our CAs, no TLS 1.2, no resumed sessions.
    ///
    /// # Errors
    /// When rustls refuses the identity.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let verifier = self.client_verifier().map_err(IdentityError::Config)?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(IdentityError::Config)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.resolver());
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// Whether a client with this chain, its own certificate first, would be let in now.
    pub(crate) fn verify_client(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let (own, intermediates) = chain
            .split_first()
            .ok_or(rustls::Error::NoCertificatesPresented)?;
        self.client_verifier()?
            .verify_client_cert(own, intermediates, UnixTime::now())
            .map(|_| ())
    }

    fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))
    }

    /// When the first certificate of our chain expires.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// What an operator should look at although the identity works; one line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from((*self.certified).clone()))
    }
}

fn roots(path: &Path, now: UnixTime, warnings: &mut Vec<String>) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for (index, der) in pem::certificates(path)?.into_iter().enumerate() {
        let number = index + 1;
        let parsed = parse(path, index, &der)?;
        if !parsed.is_ca() {
            warnings.push(format!(
                "{}: certificate {number} in it is not a CA's",
                path.display()
            ));
        }
        let until = parsed.validity().not_after;
        if seconds(until) < now.as_secs() {
            warnings.push(format!(
                "{}: CA {number} in it expired on {}",
                path.display(),
                day(until)
            ));
        }
        roots.add(der).map_err(|error| IdentityError::BadCertificate {
            path: path.into(),
            number,
            problem: error.to_string(),
        })?;
    }
    Ok(roots)
}

fn parse<'a>(
    path: &Path,
    index: usize,
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, IdentityError> {
    X509Certificate::from_der(der)
        .map(|(_, parsed)| parsed)
        .map_err(|error| IdentityError::BadCertificate {
            path: path.into(),
            number: index + 1,
            problem: error.to_string(),
        })
}

fn seconds(time: ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}

/// The day as in `2026-01-31`, UTC.
fn day(time: ASN1Time) -> String {
    time.to_datetime().date().to_string()
}
