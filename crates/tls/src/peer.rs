//! The names in a peer's certificate.

use std::net::{Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The names in a verified certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// Subject alternative names: DNS names, URIs and IP addresses, in the certificate's order.
    pub names: Vec<String>,
    /// The subject's common name. For display only: it must not grant a role.
    pub common_name: Option<String>,
}

impl Peer {
    /// Returns a label for logs: the first alternative name, or the common name in brackets.
    #[must_use]
    pub fn label(&self) -> String {
        match (self.names.first(), &self.common_name) {
            (Some(name), _) => name.clone(),
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
/// Skips names with characters other than printable ASCII, which could break a log line or imitate
/// another name.
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
        .map(|extension| extension.value.general_names.iter().filter_map(name).collect())
        .unwrap_or_default();
    let common_name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .map(str::to_owned);
    Ok(Peer { names, common_name })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    let text = match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) => (*text).to_owned(),
        GeneralName::IPAddress(bytes) => address(bytes)?,
        _ => return None,
    };
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    plain.then_some(text)
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes)
        .ok()
        .map(|sixteen| Ipv6Addr::from(sixteen).to_string())
}
