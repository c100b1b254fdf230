//! TLS errors as one line for an operator, a fragment that fits after "refused 10.0.0.2: ".

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// Explains in one line why a TLS connection failed; takes an error of tokio-rustls or of a stream.
#[must_use]
pub fn explain(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match (inner, error.kind()) {
        (Some(tls), _) => explain_tls(tls),
        (None, io::ErrorKind::UnexpectedEof) => "it closed the connection unexpectedly".to_owned(),
        (None, io::ErrorKind::ConnectionReset) => "it reset the connection".to_owned(),
        (None, io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        (None, _) => error.to_string(),
    }
}

/// Explains an error of rustls in one line.
#[must_use]
pub fn explain_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(problem) => certificate(problem),
        Error::NoCertificatesPresented => "no certificate presented".to_owned(),
        Error::AlertReceived(alert) => alert_text(*alert),
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => "it offers only TLS 1.2 or older".to_owned(),
        Error::PeerIncompatible(problem) => format!("no TLS parameters in common ({problem:?})"),
        Error::NoApplicationProtocol => "it does not speak HTTP/2 (no \"h2\" in ALPN)".to_owned(),
        Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        other => format!("TLS failed: {other}"),
    }
}

/// Strips the debug syntax of rustls: `DnsName("portal")`, `IpAddress(10.0.0.1)`.
fn bare_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn certificate(problem: &CertificateError) -> String {
    match problem {
        CertificateError::UnknownIssuer => "its certificate was issued by a CA we do not trust".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired, or our clock is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet, or our clock is wrong".to_owned()
        }
        CertificateError::NotValidForName => "its certificate is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!(
                "its certificate is for {} and not for {}",
                presented
                    .iter()
                    .map(|name| bare_name(name))
                    .collect::<Vec<_>>()
                    .join(", "),
                expected.to_str()
            )
        }
        CertificateError::Revoked => "its certificate was revoked".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for this side of a connection (extended key usage)".to_owned()
        }
        CertificateError::BadSignature => {
            "its certificate's signature is wrong: another CA of the same name issued it, or it was altered"
                .to_owned()
        }
        CertificateError::BadEncoding => "its certificate cannot be parsed".to_owned(),
        other => format!("its certificate was refused ({other})"),
    }
}

/// Explains the alert that the peer sent.
fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => {
            "it refused our certificate: issued by a CA that it does not trust".to_owned()
        }
        AlertDescription::CertificateExpired => "it refused our certificate: expired".to_owned(),
        AlertDescription::CertificateRevoked => "it refused our certificate: revoked".to_owned(),
        AlertDescription::CertificateRequired => {
            "it refused us: it requires a certificate and received none".to_owned()
        }
        AlertDescription::AccessDenied => "it refused our certificate: access denied".to_owned(),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError => format!("it refused our certificate ({alert:?})"),
        AlertDescription::ProtocolVersion => "it offers only TLS 1.2 or older".to_owned(),
        AlertDescription::NoApplicationProtocol => "it does not speak HTTP/2 (no \"h2\" in ALPN)".to_owned(),
        AlertDescription::UnrecognisedName => "it does not serve the requested name".to_owned(),
        other => format!("it ended the handshake ({other:?})"),
    }
}
