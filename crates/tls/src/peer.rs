//! The names in a peer's certificate.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::subject_name::SubjectName;

/// The names in a verified certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// Subject alternative names, in the certificate's order.
    pub names: Vec<SubjectName>,
    /// The subject's common name. For display only: it must not grant a role.
    pub common_name: Option<String>,
}

impl Peer {
    /// Returns a label for logs: the first alternative name, or the common name in brackets.
    #[must_use]
    pub fn label(&self) -> String {
        match (self.names.first(), &self.common_name) {
            (Some(name), _) => name.to_string(),
            (None, Some(name)) => format!("[CN {}]", name.escape_default()),
            (None, None) => "[nameless]".to_owned(),
        }
    }
}

/// Why a peer's names cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The peer presented no certificate.
    #[error("presented no certificate")]
    NoCertificate,
    /// The certificate cannot be parsed.
    #[error("presented a certificate that cannot be parsed")]
    Malformed,
}

/// Reads the names from a chain that rustls has verified; the first certificate is the peer's own.
/// Skips names of other types than [`SubjectName`] has, and malformed ones.
///
/// # Errors
/// When there is no certificate or it cannot be parsed.
pub fn peer_of(chain: &[CertificateDer<'_>]) -> Result<Peer, PeerError> {
    let own = chain.first().ok_or(PeerError::NoCertificate)?;
    let (_, certificate) = X509Certificate::from_der(own).map_err(|_| PeerError::Malformed)?;
    let alternative = certificate
        .subject_alternative_name()
        .map_err(|_| PeerError::Malformed)?;
    let names = alternative
        .map(|extension| {
            extension
                .value
                .general_names
                .iter()
                .filter_map(SubjectName::of)
                .collect()
        })
        .unwrap_or_default();
    let common_name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .map(str::to_owned);
    Ok(Peer { names, common_name })
}
