//! Errors of TLS in the words of an operator.

use std::io;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use tls::{explain, explain_tls};

#[test]
fn each_problem_of_a_certificate_has_a_text_of_its_own() {
    let wrong_name = CertificateError::NotValidForNameContext {
        expected: ServerName::try_from("portal.test").unwrap(),
        presented: vec![
            "DnsName(\"other.test\")".to_owned(),
            "IpAddress(10.0.0.1)".to_owned(),
            "plain".to_owned(),
        ],
    };
    for (problem, text) in [
        (
            CertificateError::UnknownIssuer,
            "its certificate was issued by a CA we do not trust",
        ),
        (
            CertificateError::Expired,
            "its certificate has expired, or our clock is wrong",
        ),
        (
            CertificateError::NotValidYet,
            "its certificate is not valid yet, or our clock is wrong",
        ),
        (
            CertificateError::NotValidForName,
            "its certificate is for another name",
        ),
        (
            wrong_name,
            "its certificate is for other.test, 10.0.0.1, plain and not for portal.test",
        ),
        (CertificateError::Revoked, "its certificate was revoked"),
        (
            CertificateError::InvalidPurpose,
            "its certificate is not for this side of a connection (extended key usage)",
        ),
        (
            CertificateError::BadSignature,
            "its certificate's signature is wrong: another CA of the same name issued it, or it was altered",
        ),
        (CertificateError::BadEncoding, "its certificate cannot be parsed"),
    ] {
        assert_eq!(explain_tls(&Error::InvalidCertificate(problem)), text);
    }
    let other = explain_tls(&Error::InvalidCertificate(
        CertificateError::UnhandledCriticalExtension,
    ));
    assert!(other.starts_with("its certificate was refused ("), "{other}");
}

#[test]
fn each_alert_of_the_peer_has_a_text_of_its_own() {
    for (alert, text) in [
        (
            AlertDescription::UnknownCA,
            "it refused our certificate: issued by a CA that it does not trust",
        ),
        (
            AlertDescription::CertificateExpired,
            "it refused our certificate: expired",
        ),
        (
            AlertDescription::CertificateRevoked,
            "it refused our certificate: revoked",
        ),
        (
            AlertDescription::CertificateRequired,
            "it refused us: it requires a certificate and received none",
        ),
        (
            AlertDescription::AccessDenied,
            "it refused our certificate: access denied",
        ),
        (
            AlertDescription::BadCertificate,
            "it refused our certificate (BadCertificate)",
        ),
        (
            AlertDescription::UnsupportedCertificate,
            "it refused our certificate (UnsupportedCertificate)",
        ),
        (
            AlertDescription::CertificateUnknown,
            "it refused our certificate (CertificateUnknown)",
        ),
        (
            AlertDescription::DecryptError,
            "it refused our certificate (DecryptError)",
        ),
        (
            AlertDescription::ProtocolVersion,
            "it offers only TLS 1.2 or older",
        ),
        (
            AlertDescription::NoApplicationProtocol,
            "it does not speak HTTP/2 (no \"h2\" in ALPN)",
        ),
        (
            AlertDescription::UnrecognisedName,
            "it does not serve the requested name",
        ),
        (
            AlertDescription::InternalError,
            "it ended the handshake (InternalError)",
        ),
    ] {
        assert_eq!(explain_tls(&Error::AlertReceived(alert)), text);
    }
}

#[test]
fn each_failure_of_a_handshake_has_a_text_of_its_own() {
    let old = "it offers only TLS 1.2 or older";
    for (error, text) in [
        (Error::NoCertificatesPresented, "no certificate presented"),
        (PeerIncompatible::Tls12NotOfferedOrEnabled.into(), old),
        (PeerIncompatible::Tls12NotOffered.into(), old),
        (
            PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into(),
            old,
        ),
        (PeerIncompatible::ServerDoesNotSupportTls12Or13.into(), old),
        (PeerIncompatible::SupportedVersionsExtensionRequired.into(), old),
        (
            PeerIncompatible::NoKxGroupsInCommon.into(),
            "no TLS parameters in common (NoKxGroupsInCommon)",
        ),
        (
            Error::NoApplicationProtocol,
            "it does not speak HTTP/2 (no \"h2\" in ALPN)",
        ),
        (
            rustls::InvalidMessage::InvalidContentType.into(),
            "it does not speak TLS",
        ),
        (
            Error::General("odd".to_owned()),
            "TLS failed: unexpected error: odd",
        ),
    ] {
        assert_eq!(explain_tls(&error), text);
    }
}

#[test]
fn an_error_of_the_stream_is_explained_by_its_kind_or_the_tls_error_in_it() {
    for (error, text) in [
        (
            io::Error::other(Error::NoCertificatesPresented),
            "no certificate presented",
        ),
        (
            io::ErrorKind::UnexpectedEof.into(),
            "it closed the connection unexpectedly",
        ),
        (io::ErrorKind::ConnectionReset.into(), "it reset the connection"),
        (io::ErrorKind::ConnectionRefused.into(), "connection refused"),
        (io::Error::other("odd"), "odd"),
    ] {
        assert_eq!(explain(&error), text);
    }
}
