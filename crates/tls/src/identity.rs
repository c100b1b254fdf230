//! An identity: our certificate, its key, and the CAs that verify the peer.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::expiry::{Expiry, ExpiryStage, day};
use crate::identity_error::IdentityError;
use crate::provider::{ALPN_H2, provider};
use crate::{clock, pem};

/// The files of an identity, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The CAs that may issue the peer's certificate: one or more certificates.
    pub ca: PathBuf,
    /// Our certificate, followed by any intermediate ones.
    pub cert: PathBuf,
    /// The key of our certificate: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// A loaded and checked identity.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    certificate: Expiry,
    ca: Expiry,
    warnings: Vec<String>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("key", &format_args!("[redacted]"))
            .field("expires", &self.certificate.at)
            .field("trusted_cas", &self.roots.len())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the three files and checks that the CAs parse and that the key is the certificate's.
    /// An expired certificate is no error: peers will refuse it, but the process must start.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`IdentityError`], which names the file and its problem.
    pub fn load(files: &IdentityFiles) -> Result<Self, IdentityError> {
        let now = clock::wall();
        let mut warnings = Vec::new();
        let (roots, ca) = roots(&files.ca, &mut warnings)?;
        let chain = pem::certificates(&files.cert)?;
        let (key, world_readable) = pem::private_key(&files.key)?;
        if world_readable {
            warnings.push(format!(
                "{}: every user of this machine can read the private key; chmod 0600 it",
                files.key.display()
            ));
        }

        let mut expires = None;
        for (index, der) in chain.iter().enumerate() {
            let parsed = parse(&files.cert, index, der)?;
            let validity = parsed.validity();
            if seconds(validity.not_before) > now.as_secs() {
                let from = day(validity.not_before);
                warnings.push(format!(
                    "{}: not valid before {from}; is the clock right?",
                    files.cert.display()
                ));
            }
            expires = sooner(expires, validity.not_after);
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
            certificate: expiry(&files.cert, expires),
            ca,
            warnings,
        })
    }

    /// Returns the day on which our certificate expired, as in `2026-01-31`; `None` while it is
    /// valid.
    pub(crate) fn expired_on(&self) -> Option<String> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(clock::wall().as_secs());
        let stage = self.certificate.stage(now);
        (stage == Some(ExpiryStage::Expired)).then(|| self.certificate.day())
    }

    /// Builds the client configuration: presents our certificate, verifies the server's CA and
    /// name.
    ///
    /// # Errors
    /// When rustls rejects the identity.
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

    /// Builds the server configuration: requires a client certificate of our CAs, resumes no
    /// sessions.
    ///
    /// # Errors
    /// When rustls rejects the identity.
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

    /// Verifies a client's chain, its own certificate first, at the current time.
    pub(crate) fn verify_client(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let (own, intermediates) = chain
            .split_first()
            .ok_or(rustls::Error::NoCertificatesPresented)?;
        self.client_verifier()?
            .verify_client_cert(own, intermediates, clock::wall())
            .map(|_| ())
    }

    fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))
    }

    /// Returns when the first certificate of our chain expires.
    #[must_use]
    pub fn certificate(&self) -> &Expiry {
        &self.certificate
    }

    /// Returns when the first of the CAs expires.
    #[must_use]
    pub fn ca(&self) -> &Expiry {
        &self.ca
    }

    /// Returns problems that do not prevent the use of the identity; one line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from((*self.certified).clone()))
    }
}

fn roots(path: &Path, warnings: &mut Vec<String>) -> Result<(RootCertStore, Expiry), IdentityError> {
    let (mut roots, mut expires) = (RootCertStore::empty(), None);
    for (index, der) in pem::certificates(path)?.into_iter().enumerate() {
        let number = index + 1;
        let parsed = parse(path, index, &der)?;
        if !parsed.is_ca() {
            warnings.push(format!(
                "{}: certificate {number} in it is not a CA's",
                path.display()
            ));
        }
        expires = sooner(expires, parsed.validity().not_after);
        roots.add(der).map_err(|error| IdentityError::BadCertificate {
            path: path.into(),
            number,
            problem: error.to_string(),
        })?;
    }
    Ok((roots, expiry(path, expires)))
}

fn sooner(expires: Option<SystemTime>, not_after: ASN1Time) -> Option<SystemTime> {
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds(not_after));
    Some(expires.map_or(until, |sooner| sooner.min(until)))
}

fn expiry(path: &Path, expires: Option<SystemTime>) -> Expiry {
    Expiry {
        path: path.to_owned(),
        // `pem::certificates` never returns an empty list.
        at: expires.unwrap_or(SystemTime::UNIX_EPOCH),
    }
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
