//! The portal double, as a client over mutual TLS sees it.

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
use testkit::portal_double::{Door, PortalDouble, PortalEvent, Reply};
use testkit::wait::{self, BOUND};
use tokio::time::timeout;
use tonic::{Code, Status};

/// Long enough for an answer on loopback, short enough to wait for one that must not come.
const SOON: Duration = Duration::from_millis(300);

struct World {
    portal: PortalDouble,
    pki: Pki,
    _directory: TempDir,
}

fn world() -> World {
    let directory = TempDir::new().unwrap();
    let pki = Pki::create(directory.path()).unwrap();
    let portal = PortalDouble::on_loopback(&pki.portal().unwrap()).unwrap();
    World {
        portal,
        pki,
        _directory: directory,
    }
}

impl World {
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
async fn answers_follow_the_script_and_requests_are_recorded() {
    let world = world();
    let channel = world.channel().await;
    world
        .portal
        .on_check_of("mallory", Reply::deny("not on the list"));
    assert!(check(&channel, "alice").await.unwrap().allowed);
    let denied = check(&channel, "mallory").await.unwrap();
    assert_eq!(
        (denied.allowed, denied.deny_reason.as_str()),
        (false, "not on the list")
    );

    world.portal.on_check(Reply::allow_for(Duration::from_secs(7)));
    assert_eq!(
        check(&channel, "alice").await.unwrap().metadata["cache_ttl_seconds"],
        "7"
    );
    world.portal.on_check(Reply::contradictory());
    let contradiction = check(&channel, "alice").await.unwrap();
    assert!(contradiction.allowed && contradiction.should_disconnect);
    assert_eq!(world.portal.checks_of("alice").len(), 3);
}

#[tokio::test]
async fn every_kind_of_bad_answer_is_an_error_of_the_call_and_not_of_the_next() {
    let world = world();
    let channel = world.channel().await;
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
        world.portal.on_check(reply.clone());
        assert_eq!(
            check(&channel, "alice").await.unwrap_err().code(),
            code,
            "{reply:?}"
        );
        world.portal.on_check(Reply::allow());
        assert!(check(&channel, "alice").await.unwrap().allowed, "after {reply:?}");
    }
}

#[tokio::test]
async fn a_hung_call_stays_open_and_others_go_on() {
    let world = world();
    let channel = world.channel().await;
    world.portal.on_check_of("slow", Reply::Hang);
    assert!(timeout(SOON, check(&channel, "slow")).await.is_err());
    assert!(check(&channel, "alice").await.unwrap().allowed);
}

#[tokio::test]
async fn a_delay_holds_the_answer_back() {
    let world = world();
    let channel = world.channel().await;
    world.portal.delay(10 * SOON);
    assert!(timeout(SOON, check(&channel, "alice")).await.is_err());
    world.portal.delay(Duration::ZERO);
    assert!(check(&channel, "alice").await.unwrap().allowed);
}

#[tokio::test]
async fn closing_ends_the_connection_under_the_call() {
    let world = world();
    let channel = world.channel().await;
    world.portal.on_check(Reply::CloseConnection);
    assert!(check(&channel, "alice").await.is_err());
    world.portal.on_check(Reply::allow());
    assert!(check(&channel, "alice").await.is_err());
    assert!(check(&world.channel().await, "alice").await.unwrap().allowed);
}

#[tokio::test]
async fn stopped_it_refuses_and_resumed_it_answers_at_the_same_address() {
    let world = world();
    let channel = world.channel().await;
    check(&channel, "alice").await.unwrap();
    world.portal.stop();
    assert!(TcpStream::connect(world.portal.address()).is_err());
    assert!(check(&channel, "alice").await.is_err());
    world.portal.resume().unwrap();
    assert!(check(&world.channel().await, "alice").await.unwrap().allowed);
}

#[tokio::test]
async fn doors_keep_connections_from_becoming_useful() {
    let world = world();
    let agent = world.pki.agent().unwrap();
    let open = || Channel::open(world.dial(), &agent, "portal.lab");

    world.portal.set_door(Door::Mute);
    assert!(timeout(SOON, open()).await.is_err());
    world.portal.set_door(Door::Closed);
    assert!(open().await.is_err());
    world.portal.set_door(Door::HandshakeOnly);
    let channel = open().await.unwrap();
    assert!(timeout(SOON, check(&channel, "alice")).await.is_err());
    world
        .portal
        .set_door(Door::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    let channel = open().await.unwrap();
    assert!(check(&channel, "alice").await.is_err());
    world.portal.set_door(Door::Open);
    assert!(check(&open().await.unwrap(), "alice").await.unwrap().allowed);
    assert_eq!(world.portal.checks().len(), 1);
}

#[tokio::test]
async fn strangers_are_refused_on_either_side() {
    let world = world();
    let foreign = world.pki.foreign().unwrap();
    let stranger = foreign.agent().unwrap().trusting(world.pki.ca());
    let refused = match Channel::open(world.dial(), &stranger, "portal.lab").await {
        Ok(channel) => check(&channel, "alice").await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    wait::until("the failed handshake", BOUND, || {
        world
            .portal
            .handshake_failures()
            .iter()
            .any(|why| why.contains("UnknownIssuer"))
            .then_some(())
    })
    .unwrap();

    let agent = world.pki.agent().unwrap();
    for (portal, why) in [
        (
            foreign.portal().unwrap().trusting(world.pki.ca()),
            "UnknownIssuer",
        ),
        (
            world
                .pki
                .issue("old", &["portal.lab"], Validity::Expired)
                .unwrap(),
            "expired",
        ),
        (
            world
                .pki
                .issue("early", &["portal.lab"], Validity::NotYet)
                .unwrap(),
            "not valid yet",
        ),
        (
            world
                .pki
                .issue("other", &["elsewhere.lab"], Validity::Now)
                .unwrap(),
            "not valid for name",
        ),
    ] {
        world.portal.set_identity(&portal).unwrap();
        let error = Channel::open(world.dial(), &agent, "portal.lab")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{why} is not in {error:?}");
    }
}

#[tokio::test]
async fn events_are_recorded_whatever_they_get() {
    let world = world();
    let channel = world.channel().await;
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
    world.portal.on_event(Reply::acknowledge(false));
    assert!(
        !events
            .report_connect(event.clone())
            .await
            .unwrap()
            .into_inner()
            .success
    );
    world.portal.on_event(Reply::code(Code::Unavailable));
    assert_eq!(
        events.report_connect(event.clone()).await.unwrap_err().code(),
        Code::Unavailable
    );
    assert_eq!(world.portal.events(), vec![PortalEvent::Connect(event); 3]);
}

#[test]
fn private_keys_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let world = world();
    let key = world.pki.agent().unwrap().key;
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}
