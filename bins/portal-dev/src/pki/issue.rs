//! Issues certificates and keys, in memory.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::identity::{Identity, Side};
use crate::subject_name::San;

/// Time before now from which certificates are valid, for clocks that are behind.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

/// A file to write.
pub(super) struct File {
    pub(super) name: String,
    pub(super) pem: String,
    pub(super) secret: bool,
}

/// Creates a CA, issues all identities and discards its key.
pub(super) fn issue(identities: &[Identity], days: u16) -> anyhow::Result<Vec<File>> {
    // A unique name: otherwise a certificate of another CA would fail as forged and not as unknown.
    let ca_key = KeyPair::generate()?;
    let suffix: String = ca_key
        .public_key_raw()
        .iter()
        .rev()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut params = params(&format!("portal-dev CA {suffix}"), days)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(params, ca_key)?;

    let mut files = vec![File {
        name: "ca.pem".to_owned(),
        pem: ca.pem(),
        secret: false,
    }];
    for identity in identities {
        let key = KeyPair::generate()?;
        let cert = identity_params(identity, days)?.signed_by(&key, &ca)?;
        files.push(File {
            name: format!("{}.pem", identity.name),
            pem: cert.pem(),
            secret: false,
        });
        files.push(File {
            name: format!("{}.key", identity.name),
            pem: key.serialize_pem(),
            secret: true,
        });
    }
    Ok(files)
}

fn identity_params(identity: &Identity, days: u16) -> anyhow::Result<CertificateParams> {
    let mut params = params(&identity.name, days)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = match identity.side {
        Side::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Side::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Side::Both => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
    };
    for name in &identity.names {
        params.subject_alt_names.push(match name {
            San::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            San::Ip(address) => SanType::IpAddress(*address),
        });
    }
    Ok(params)
}

/// Returns the common name and the validity of a certificate.
fn params(common_name: &str, days: u16) -> anyhow::Result<CertificateParams> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let start = rcgen::date_time_ymd(1970, 1, 1) + now.saturating_sub(CLOCK_SKEW);
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = start;
    params.not_after = start + Duration::from_secs(u64::from(days) * 24 * 60 * 60) + CLOCK_SKEW;
    Ok(params)
}
