//! Errors and warnings of loading an identity, and reloads.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::pki::{Ca, files, write};
use tls::{ClientTls, Identity, ServerTls, peer_of};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

#[test]
fn valid_identity_loads_without_warnings_for_both_directions() {
    let ca = Ca::new("ca");
    let (_dir, files) = files(&ca, &ca.leaf("agent.test"));
    let identity = Identity::load(&files).unwrap();
    assert!(identity.warnings().is_empty(), "{:?}", identity.warnings());
    identity.client_config().unwrap();
    identity.server_config().unwrap();
}

#[test]
fn error_of_a_broken_identity_names_the_file_and_the_fault() {
    let ca = Ca::new("ca");
    let other = ca.leaf("other.test");
    let (dir, files) = files(&ca, &ca.leaf("agent.test"));
    let cut_short = fs::read_to_string(&files.cert)
        .unwrap()
        .replace("-----END CERTIFICATE-----", "");
    let largest = "\n".repeat(4 << 20);
    let too_large = "\n".repeat((4 << 20) + 1);
    let not_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cases = [
        (&files.ca, None, "ca.pem: no such file"),
        (
            &files.cert,
            Some(""),
            "cert.pem: no usable certificate in PEM form: there is none in it",
        ),
        (&files.cert, Some(cut_short.as_str()), "its END line is missing"),
        (
            &files.cert,
            Some(not_der),
            "cert.pem: certificate 1 in it cannot be used",
        ),
        (
            &files.ca,
            Some(not_der),
            "ca.pem: certificate 1 in it cannot be used",
        ),
        (
            &files.cert,
            Some("-----BEGIN CERTIFICATE\n"),
            "a BEGIN line is malformed",
        ),
        (
            &files.cert,
            Some("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"),
            "its base64 is damaged",
        ),
        (
            &files.cert,
            Some(largest.as_str()),
            "cert.pem: no usable certificate in PEM form: there is none in it",
        ),
        (
            &files.cert,
            Some(too_large.as_str()),
            "cert.pem: larger than 4194304 bytes",
        ),
        (
            &files.key,
            Some(&*other.cert),
            "key.pem: no usable private key in PEM form: there is none in it",
        ),
        (
            &files.key,
            Some(&*other.key),
            "key.pem: is not the key of the certificate in",
        ),
    ];
    for (path, text, expected) in cases {
        let before = fs::read_to_string(path).unwrap();
        match text {
            Some(text) => write(path, text),
            None => fs::remove_file(path).unwrap(),
        }
        let error = Identity::load(&files).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        assert!(
            error.contains(&*dir.path().to_string_lossy()),
            "{error:?} has no path"
        );
        write(path, &before);
    }
    fs::remove_file(&files.ca).unwrap();
    fs::create_dir(&files.ca).unwrap();
    let error = Identity::load(&files).unwrap_err().to_string();
    assert!(error.ends_with("ca.pem: could not be read"), "{error}");
}

#[test]
fn certificate_that_is_not_valid_yet_and_a_leaf_among_the_cas_are_warnings() {
    let ca = Ca::new("ca");
    let early = ca.leaf_with("agent.test", |params| {
        params.not_before = rcgen::date_time_ymd(3000, 1, 1);
        params.not_after = rcgen::date_time_ymd(3001, 1, 1);
    });
    let (_dir, files) = files(&ca, &early);
    write(
        &files.ca,
        &format!("{}{}", ca.pem(), ca.expired_leaf("leaf").cert),
    );
    let identity = Identity::load(&files).unwrap();
    let [leaf, not_yet] = identity.warnings() else {
        panic!("{:?}", identity.warnings())
    };
    assert!(
        leaf.ends_with("ca.pem: certificate 2 in it is not a CA's"),
        "{leaf}"
    );
    assert!(not_yet.contains("not valid before 3000-01-01"), "{not_yet}");
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    assert!(identity.certificate().describe(epoch).ends_with("on 3001-01-01"));
    assert!(
        identity.ca().describe(epoch).ends_with("on 2020-02-03"),
        "the earliest"
    );
    assert_eq!(
        (&identity.certificate().path, &identity.ca().path),
        (&files.cert, &files.ca)
    );
}

#[test]
fn error_of_a_file_that_may_not_be_read_says_so() {
    let ca = Ca::new("ca");
    let (_dir, mut files) = files(&ca, &ca.leaf("agent.test"));
    // Nobody may read it, root neither.
    files.key = "/proc/sys/net/ipv4/route/flush".into();
    let error = Identity::load(&files).unwrap_err().to_string();
    assert_eq!(error, "/proc/sys/net/ipv4/route/flush: no permission to read it");
}

#[test]
fn provider_is_installed_for_the_process() {
    tls::install_provider();
    tls::install_provider();
    assert!(rustls::crypto::CryptoProvider::get_default().is_some());
}

#[test]
fn world_readable_key_is_a_warning() {
    let ca = Ca::new("ca");
    let (_dir, files) = files(&ca, &ca.leaf("agent.test"));
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
    let identity = Identity::load(&files).unwrap();
    assert!(
        identity.warnings()[0].contains("every user of this machine"),
        "{:?}",
        identity.warnings()
    );
}

#[test]
fn debug_output_never_contains_the_key() {
    let ca = Ca::new("ca");
    let (_dir, files) = files(&ca, &ca.leaf("agent.test"));
    let key = fs::read_to_string(&files.key).unwrap();
    let secret = key.lines().nth(1).unwrap();
    let shown = format!(
        "{:?} {:?} {:?}",
        Identity::load(&files).unwrap(),
        ClientTls::load(files.clone()).unwrap(),
        ServerTls::load(files).unwrap()
    );
    assert!(shown.contains("[redacted]"));
    assert!(!shown.contains(secret));
}

#[test]
fn expired_certificate_is_loaded_at_start_and_rejected_by_a_reload() {
    let ca = Ca::new("ca");
    let expired = ca.expired_leaf("agent.test");
    let (_dir, files) = files(&ca, &ca.leaf("agent.test"));
    let tls = ClientTls::load(files.clone()).unwrap();
    let before = tls.current();
    write(&files.cert, &expired.cert);
    write(&files.key, &expired.key);
    let identity = Identity::load(&files).unwrap();
    let described = identity.certificate().describe(std::time::SystemTime::UNIX_EPOCH);
    assert!(described.ends_with(", on 2020-02-03"), "{described}");
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("the certificate expired on 2020-02-03"), "{error}");
    assert!(std::sync::Arc::ptr_eq(&before, &tls.current()));
}

#[test]
fn reload_of_a_broken_file_keeps_the_old_identity() {
    let ca = Ca::new("ca");
    let (_dir, files) = files(&ca, &ca.leaf("agent.test"));
    let tls = ServerTls::load(files.clone()).unwrap();
    let first = tls.current();

    write(&files.key, "not a key");
    tls.reload().unwrap_err();
    assert!(
        std::sync::Arc::ptr_eq(&first, &tls.current()),
        "a broken reload changed the identity"
    );

    let next = ca.leaf("agent.test");
    write(&files.cert, &next.cert);
    write(&files.key, &next.key);
    let clone = tls.clone();
    tls.reload().unwrap();
    assert!(
        !std::sync::Arc::ptr_eq(&first, &clone.current()),
        "a clone did not see the reload"
    );
}

#[test]
fn peer_names_are_the_alternative_names_and_never_the_common_name() {
    let ca = Ca::new("ca");
    let leaf = ca.leaf_with("portal.test", |params| {
        params.subject_alt_names.extend([
            rcgen::SanType::URI("spiffe://corp/portal".try_into().unwrap()),
            rcgen::SanType::IpAddress("2001:db8::1".parse().unwrap()),
        ]);
    });
    let der = CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap();
    let peer = peer_of(&[der]).unwrap();
    let names: Vec<String> = peer.names.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        ["portal.test", "uri:spiffe://corp/portal", "ip:2001:db8::1"]
    );
    assert_eq!(peer.common_name.as_deref(), Some("portal.test (cn)"));
    assert_eq!(peer.label(), "portal.test");
}
