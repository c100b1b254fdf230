//! The listener of `portal-dev serve`: TLS, health and shutdown.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use ocserv_agent_proto::vpn::v1::CheckPolicyRequest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use support::{Client, Portal, identity, pki};

const POLICY: &str = "version = 1\ndefault = \"allow\"\n";

fn login() -> CheckPolicyRequest {
    CheckPolicyRequest {
        username: "alice".to_owned(),
        client_ip: "192.0.2.7".to_owned(),
        session_id: "27015".to_owned(),
        ..CheckPolicyRequest::default()
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_ca_is_refused() {
    let portal = Portal::start(POLICY);
    let foreign = tempfile::tempdir().unwrap();
    pki(foreign.path());
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(portal.pki().join("ca.pem")).unwrap())
        .unwrap();

    // The clients trust the portal: only the portal refuses.
    let base = || rustls::ClientConfig::builder().with_root_certificates(roots.clone());
    let mut anonymous = base().with_no_client_auth();
    let chain = CertificateDer::pem_file_iter(foreign.path().join("agent.pem")).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(foreign.path().join("agent.key")).unwrap();
    let mut foreign_client = base()
        .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    for (config, why) in [
        (&mut anonymous, "no certificate presented"),
        (
            &mut foreign_client,
            "its certificate was issued by a CA we do not trust",
        ),
    ] {
        config.alpn_protocols = vec![b"h2".to_vec()];
        // In TLS 1.3 the client completes the handshake before the server has verified its
        // certificate.
        if let Ok(mut client) = Client::connect(portal.address, Arc::new(config.clone())).await {
            client.auth.check_policy(login()).await.unwrap_err();
        }
        let log = portal.wait_for_log("refused 127.0.0.1:");
        assert!(log.ends_with(why), "{log}");
    }
    assert!(portal.events().iter().all(|line| line["kind"] == "policy_loaded"));

    // An agent that trusts another CA refuses the portal.
    let config = identity(foreign.path(), "agent").client_config().unwrap();
    let refused = Client::connect(portal.address, config).await.err().unwrap();
    assert_eq!(refused, "its certificate was issued by a CA we do not trust");
}

#[tokio::test]
async fn a_tls_1_2_client_is_refused_with_a_protocol_version_alert() {
    let portal = Portal::start(POLICY);
    // A ClientHello of TLS 1.2: one suite, curves and signatures, no supported_versions.
    let extensions: [&[u8]; 3] = [
        &[0, 10, 0, 4, 0, 2, 0, 23],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 4, 0, 2, 4, 3],
    ];
    let extensions = extensions.concat();
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend(extensions);
    let mut handshake = vec![1, 0];
    handshake.extend(u16::try_from(hello.len()).unwrap().to_be_bytes());
    handshake.extend(hello);
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(handshake.len()).unwrap().to_be_bytes());
    record.extend(handshake);

    let mut tcp = TcpStream::connect(portal.address).unwrap();
    tcp.set_read_timeout(Some(support::BOUND)).unwrap();
    tcp.write_all(&record).unwrap();
    let mut alert = [0; 7];
    tcp.read_exact(&mut alert).unwrap();
    // Record type alert; fatal; protocol_version.
    assert_eq!((alert[0], &alert[5..]), (21, &[2, 70][..]));
    portal.wait_for_log("it offers only TLS 1.2 or older");
}

#[tokio::test]
async fn health_is_serving_for_the_server_and_both_services() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let portal = Portal::start(POLICY);
    let client = portal.client().await;
    let mut health =
        HealthClient::with_origin(client.sender.clone(), http::Uri::from_static("https://localhost"));
    for service in ["", "vpn.v1.AuthService", "vpn.v1.EventService"] {
        let status = health
            .check(HealthCheckRequest {
                service: service.to_owned(),
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(status.status(), ServingStatus::Serving, "{service:?}");
    }
}

#[tokio::test]
async fn sigterm_exits_with_success_while_an_agent_is_connected() {
    let mut portal = Portal::start(POLICY);
    let mut client = portal.client().await;
    client.auth.check_policy(login()).await.unwrap();
    let portal = tokio::task::spawn_blocking(move || {
        portal.signal("TERM");
        assert_eq!(portal.wait(), Some(0));
        portal
    });
    let portal = portal.await.unwrap();
    assert_eq!(portal.wait_for_events("check_policy", 1).await.len(), 1);
}
