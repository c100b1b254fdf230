//! The portal double, through a client over mutual TLS.

#![expect(
    clippy::unwrap_used,
    reason = "the set-up of a test fails by panicking, as the test does"
)]

use std::net::TcpStream;
use std::time::Duration;

use ocserv_agent_proto::vpn::v1::auth_service_client::AuthServiceClient;
use ocserv_agent_proto::vpn::v1::event_service_client::EventServiceClient;
use ocserv_agent_proto::vpn::v1::{CheckPolicyRequest, CheckPolicyResponse, ReportConnectRequest};
use tempfile::TempDir;
use testkit::grpc::Channel;
use testkit::pki::{Pki, Validity};
use testkit::portal_double::{AcceptMode, PortalDouble, PortalEvent, Reply};
use testkit::wait::{self, BOUND};
use tokio::time::timeout;
use tonic::{Code, Status};

/// Long enough for a reply on loopback, short enough to wait for one that must not be sent.
const REPLY_TIMEOUT: Duration = Duration::from_millis(300);

struct Fixture {
    portal: PortalDouble,
    pki: Pki,
    _directory: TempDir,
}

fn fixture() -> Fixture {
    let directory = TempDir::new().unwrap();
    let pki = Pki::create(directory.path()).unwrap();
    let portal = PortalDouble::on_loopback(&pki.portal().unwrap()).unwrap();
    Fixture {
        portal,
        pki,
        _directory: directory,
    }
}

impl Fixture {
    fn dial(&self) -> TcpStream {
        TcpStream::connect(self.portal.address()).unwrap()
    }

    async fn channel(&self) -> Channel {
        Channel::open(self.dial(), &self.pki.agent().unwrap(), "portal.lab")
            .await
            .unwrap()
    }
}

async fn check(channel: &Channel, user: &str) -> Result<CheckPolicyResponse, Status> {
    let request = CheckPolicyRequest {
        username: user.to_owned(),
        ..CheckPolicyRequest::default()
    };
    AuthServiceClient::new(channel.clone())
        .check_policy(request)
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test]
async fn replies_are_as_set_and_requests_are_recorded() {
    let fixture = fixture();
    let channel = fixture.channel().await;
    fixture
        .portal
        .on_check_of("mallory", Reply::deny("not on the list"));
    assert!(check(&channel, "alice").await.unwrap().allowed);
    let denied = check(&channel, "mallory").await.unwrap();
    assert_eq!(
        (denied.allowed, denied.deny_reason.as_str()),
        (false, "not on the list")
    );

    fixture.portal.on_check(Reply::allow_for(Duration::from_secs(7)));
    assert_eq!(
        check(&channel, "alice").await.unwrap().metadata["cache_ttl_seconds"],
        "7"
    );
    fixture.portal.on_check(Reply::contradictory());
    let contradiction = check(&channel, "alice").await.unwrap();
    assert!(contradiction.allowed && contradiction.should_disconnect);
    assert_eq!(fixture.portal.checks_of("alice").len(), 3);
}

#[tokio::test]
async fn every_kind_of_invalid_reply_fails_its_call_and_not_the_next() {
    let fixture = fixture();
    let channel = fixture.channel().await;
    for (reply, code) in [
        (
            Reply::Status(Code::ResourceExhausted, "too much".to_owned()),
            Code::ResourceExhausted,
        ),
        (Reply::NoMessage, Code::Internal),
        (Reply::Bytes(vec![0xff; 9]), Code::Internal),
        (Reply::Torn(vec![8, 1]), Code::Internal),
        (Reply::Http(503), Code::Unavailable),
    ] {
        fixture.portal.on_check(reply.clone());
        assert_eq!(
            check(&channel, "alice").await.unwrap_err().code(),
            code,
            "{reply:?}"
        );
        fixture.portal.on_check(Reply::allow());
        assert!(check(&channel, "alice").await.unwrap().allowed, "after {reply:?}");
    }
}

#[tokio::test]
async fn a_call_that_hangs_does_not_block_others() {
    let fixture = fixture();
    let channel = fixture.channel().await;
    fixture.portal.on_check_of("slow", Reply::Hang);
    assert!(timeout(REPLY_TIMEOUT, check(&channel, "slow")).await.is_err());
    assert!(check(&channel, "alice").await.unwrap().allowed);
}

#[tokio::test]
async fn a_delay_postpones_the_reply() {
    let fixture = fixture();
    let channel = fixture.channel().await;
    fixture.portal.delay(10 * REPLY_TIMEOUT);
    assert!(timeout(REPLY_TIMEOUT, check(&channel, "alice")).await.is_err());
    fixture.portal.delay(Duration::ZERO);
    assert!(check(&channel, "alice").await.unwrap().allowed);
}

#[tokio::test]
async fn close_connection_closes_it_during_the_call() {
    let fixture = fixture();
    let channel = fixture.channel().await;
    fixture.portal.on_check(Reply::CloseConnection);
    assert!(check(&channel, "alice").await.is_err());
    fixture.portal.on_check(Reply::allow());
    assert!(check(&channel, "alice").await.is_err());
    assert!(check(&fixture.channel().await, "alice").await.unwrap().allowed);
}

#[tokio::test]
async fn after_stop_it_refuses_connections_and_after_resume_it_serves_the_same_address() {
    let fixture = fixture();
    let channel = fixture.channel().await;
    check(&channel, "alice").await.unwrap();
    fixture.portal.stop();
    assert!(TcpStream::connect(fixture.portal.address()).is_err());
    assert!(check(&channel, "alice").await.is_err());
    fixture.portal.resume().unwrap();
    assert!(check(&fixture.channel().await, "alice").await.unwrap().allowed);
}

#[tokio::test]
async fn each_accept_mode_treats_new_connections_as_documented() {
    let fixture = fixture();
    let agent = fixture.pki.agent().unwrap();
    let open = || Channel::open(fixture.dial(), &agent, "portal.lab");

    fixture.portal.set_accept_mode(AcceptMode::Silent);
    assert!(timeout(REPLY_TIMEOUT, open()).await.is_err());
    fixture.portal.set_accept_mode(AcceptMode::Close);
    assert!(open().await.is_err());
    fixture.portal.set_accept_mode(AcceptMode::HandshakeOnly);
    let channel = open().await.unwrap();
    assert!(timeout(REPLY_TIMEOUT, check(&channel, "alice")).await.is_err());
    fixture
        .portal
        .set_accept_mode(AcceptMode::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    let channel = open().await.unwrap();
    assert!(check(&channel, "alice").await.is_err());
    fixture.portal.set_accept_mode(AcceptMode::Serve);
    assert!(check(&open().await.unwrap(), "alice").await.unwrap().allowed);
    assert_eq!(fixture.portal.checks().len(), 1);
}

#[tokio::test]
async fn untrusted_peers_are_rejected_on_either_side() {
    let fixture = fixture();
    let foreign = fixture.pki.foreign().unwrap();
    let untrusted = foreign.agent().unwrap().trusting(fixture.pki.ca());
    let rejected = match Channel::open(fixture.dial(), &untrusted, "portal.lab").await {
        Ok(channel) => check(&channel, "alice").await.is_err(),
        Err(_) => true,
    };
    assert!(rejected);
    wait::until("the failed handshake", BOUND, || {
        fixture
            .portal
            .handshake_failures()
            .iter()
            .any(|why| why.contains("UnknownIssuer"))
            .then_some(())
    })
    .unwrap();

    let agent = fixture.pki.agent().unwrap();
    for (portal, why) in [
        (
            foreign.portal().unwrap().trusting(fixture.pki.ca()),
            "UnknownIssuer",
        ),
        (
            fixture
                .pki
                .issue("old", &["portal.lab"], Validity::Expired)
                .unwrap(),
            "expired",
        ),
        (
            fixture
                .pki
                .issue("early", &["portal.lab"], Validity::NotYet)
                .unwrap(),
            "not valid yet",
        ),
        (
            fixture
                .pki
                .issue("other", &["elsewhere.lab"], Validity::Now)
                .unwrap(),
            "not valid for name",
        ),
    ] {
        fixture.portal.set_identity(&portal).unwrap();
        let error = Channel::open(fixture.dial(), &agent, "portal.lab")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{why} is not in {error:?}");
    }
}

#[tokio::test]
async fn events_are_recorded_whatever_the_reply() {
    let fixture = fixture();
    let channel = fixture.channel().await;
    let mut events = EventServiceClient::new(channel);
    let event = ReportConnectRequest {
        username: "alice".to_owned(),
        ..ReportConnectRequest::default()
    };
    assert!(
        events
            .report_connect(event.clone())
            .await
            .unwrap()
            .into_inner()
            .success
    );
    fixture.portal.on_event(Reply::acknowledge(false));
    assert!(
        !events
            .report_connect(event.clone())
            .await
            .unwrap()
            .into_inner()
            .success
    );
    fixture.portal.on_event(Reply::code(Code::Unavailable));
    assert_eq!(
        events.report_connect(event.clone()).await.unwrap_err().code(),
        Code::Unavailable
    );
    assert_eq!(fixture.portal.events(), vec![PortalEvent::Connect(event); 3]);
}

#[test]
fn private_keys_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = fixture();
    let key = fixture.pki.agent().unwrap().key;
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}
