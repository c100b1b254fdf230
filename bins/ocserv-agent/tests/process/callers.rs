//! Who calls the agent over gRPC, and how she fares when it reloads or stops.

use std::fs;
use std::net::TcpStream;

use nix::sys::signal::Signal;
use testkit::grpc::Channel;
use testkit::pki::{AGENT_NAMES, Issued, Validity};
use testkit::wait::{BOUND, until};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::place::{Place, Running};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn caller(agent: &Running, identity: &Issued) -> HealthClient<Channel> {
    let line = agent.logs("agent is ready");
    let (_, address) = line.split_once(" grpc=").unwrap();
    let address = address.split_whitespace().next().unwrap().trim_matches('"');
    let stream = TcpStream::connect(address).unwrap();
    HealthClient::new(Channel::open(stream, identity, AGENT_NAMES[0]).await.unwrap())
}

fn anything() -> HealthCheckRequest {
    HealthCheckRequest::default()
}

#[test]
fn a_caller_that_watches_the_agents_health_hears_of_a_stop_and_does_not_hold_it_up() {
    let place = Place::new();
    let mut agent = place.start("");
    runtime().block_on(async {
        let mut caller = caller(&agent, &place.pki.portal().unwrap()).await;
        let mut watched = caller.watch(anything()).await.unwrap().into_inner();
        let mut next = async || {
            let told = timeout(BOUND, watched.message()).await.unwrap().unwrap();
            told.map(|told| told.status())
        };
        assert_eq!(next().await, Some(ServingStatus::Serving));
        agent.signal(Signal::SIGTERM);
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        assert_eq!(next().await, None, "it is let go");
    });
    assert_eq!(agent.exit_code(), Some(0));
    let log = fs::read_to_string(&agent.log).unwrap();
    assert!(!log.contains("did not end"), "{log}");
}

#[test]
fn a_reload_without_a_ca_cuts_off_the_callers_that_it_vouched_for_and_no_other() {
    let place = Place::new();
    let other = place.pki.foreign().unwrap();
    let ours = fs::read_to_string(place.pki.ca()).unwrap();
    let both = ours.clone() + &fs::read_to_string(other.ca()).unwrap();
    fs::write(&place.files.ca, both).unwrap();
    let agent = place.start("");
    let runtime = runtime();
    let (mut leaving, mut staying) = runtime.block_on(async {
        let leaver = other.issue("caller", &["old.lab"], Validity::Now).unwrap();
        let leaver = caller(&agent, &leaver.trusting(place.pki.ca())).await;
        (leaver, caller(&agent, &place.pki.portal().unwrap()).await)
    });
    let answered = |caller: &mut HealthClient<Channel>| {
        runtime.block_on(async { timeout(BOUND, caller.check(anything())).await.unwrap().is_ok() })
    };
    assert!(answered(&mut leaving) && answered(&mut staying));

    fs::write(&place.files.ca, ours).unwrap();
    agent.signal(Signal::SIGHUP);
    agent.logs("reloaded");
    until("the caller to be cut off", BOUND, || {
        (!answered(&mut leaving)).then_some(())
    })
    .unwrap();
    assert!(answered(&mut staying));
    assert!(
        agent
            .logs("closed the connection of old.lab")
            .contains("a CA we do not trust")
    );
}
