//! Subject alternative names, each with its type.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls::pki_types::DnsName;
use x509_parser::extensions::GeneralName;

/// A subject alternative name. Names of different types are never equal, whatever their text.
///
/// Shown and parsed as `uri:…`, `ip:…` or `email:…`; a DNS name is shown bare and parsed bare or
/// as `dns:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectName {
    /// A DNS name, in lowercase.
    Dns(String),
    /// A URI, compared byte by byte.
    Uri(String),
    /// An IP address.
    Ip(IpAddr),
    /// An email address, compared byte by byte.
    Email(String),
}

impl SubjectName {
    /// Reads a name of a certificate. `None` for a type that is not one of ours, and for text with
    /// characters that its type does not have, which could break a log line or imitate another
    /// name.
    pub(crate) fn of(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(text) => {
                let is_dns = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'*');
                let is_name = !text.is_empty() && text.bytes().all(is_dns);
                is_name.then(|| Self::Dns(text.to_ascii_lowercase()))
            }
            GeneralName::URI(text) => is_printable(text).then(|| Self::Uri((*text).to_owned())),
            GeneralName::RFC822Name(text) => is_printable(text).then(|| Self::Email((*text).to_owned())),
            GeneralName::IPAddress(bytes) => address(bytes).map(Self::Ip),
            _ => None,
        }
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Uri(uri) => write!(f, "uri:{uri}"),
            Self::Ip(address) => write!(f, "ip:{address}"),
            Self::Email(address) => write!(f, "email:{address}"),
        }
    }
}

/// Why text is not a subject name; a fragment that fits after the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectNameError {
    /// An address without its type.
    #[error("is an IP address: write it as \"ip:…\"")]
    BareAddress,
    /// Neither a DNS name nor text with a known type.
    #[error("is not a DNS name: write a name of another type as \"uri:…\", \"ip:…\" or \"email:…\"")]
    NotDns,
    /// The text after `uri:` cannot be a URI.
    #[error("is not a URI with its scheme in printable ASCII")]
    NotUri,
    /// The text after `ip:` is not an address.
    #[error("is not an IP address")]
    NotIp,
    /// The text after `email:` cannot be an email address.
    #[error("is not an email address in printable ASCII")]
    NotEmail,
}

impl FromStr for SubjectName {
    type Err = SubjectNameError;

    fn from_str(text: &str) -> Result<Self, SubjectNameError> {
        if text.parse::<IpAddr>().is_ok() {
            return Err(SubjectNameError::BareAddress);
        }
        match text.split_once(':') {
            Some(("uri", uri)) if is_printable(uri) && uri.contains(':') => Ok(Self::Uri(uri.to_owned())),
            Some(("uri", _)) => Err(SubjectNameError::NotUri),
            Some(("ip", address)) => address.parse().map(Self::Ip).map_err(|_| SubjectNameError::NotIp),
            Some(("email", address)) if is_printable(address) && address.contains('@') => {
                Ok(Self::Email(address.to_owned()))
            }
            Some(("email", _)) => Err(SubjectNameError::NotEmail),
            Some(("dns", name)) => dns(name),
            _ => dns(text),
        }
    }
}

fn dns(text: &str) -> Result<SubjectName, SubjectNameError> {
    let name = DnsName::try_from(text).map_err(|_| SubjectNameError::NotDns)?;
    Ok(SubjectName::Dns(name.as_ref().to_ascii_lowercase()))
}

fn is_printable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| sixteen()).ok()
}

#[cfg(test)]
mod tests;
