//! gRPC clients during a reload and a shutdown.

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

use super::harness::{Harness, RunningAgent};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn connect(agent: &RunningAgent, identity: &Issued) -> HealthClient<Channel> {
    let line = agent.wait_for_log("agent is ready");
    let (_, address) = line.split_once(" grpc=").unwrap();
    let address = address.split_whitespace().next().unwrap().trim_matches('"');
    let stream = TcpStream::connect(address).unwrap();
    HealthClient::new(Channel::open(stream, identity, AGENT_NAMES[0]).await.unwrap())
}

#[test]
fn a_health_watch_reports_a_shutdown_and_does_not_delay_it() {
    let harness = Harness::new();
    let mut agent = harness.start("");
    runtime().block_on(async {
        let mut client = connect(&agent, &harness.pki.portal().unwrap()).await;
        let watch = client.watch(HealthCheckRequest::default()).await;
        let mut statuses = watch.unwrap().into_inner();
        let mut next = async || {
            let response = timeout(BOUND, statuses.message()).await.unwrap().unwrap();
            response.map(|response| response.status())
        };
        assert_eq!(next().await, Some(ServingStatus::Serving));
        agent.signal(Signal::SIGTERM);
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        assert_eq!(next().await, None, "the stream ends");
    });
    assert_eq!(agent.exit_code(), Some(0));
    let log = fs::read_to_string(&agent.log).unwrap();
    assert!(!log.contains("did not end"), "{log}");
}

#[test]
fn a_reload_without_a_ca_closes_the_connections_that_it_authenticated() {
    let harness = Harness::new();
    let other = harness.pki.foreign().unwrap();
    let ours = fs::read_to_string(harness.pki.ca()).unwrap();
    let both = ours.clone() + &fs::read_to_string(other.ca()).unwrap();
    fs::write(&harness.files.ca, both).unwrap();
    let agent = harness.start("");
    let runtime = runtime();
    let (mut distrusted, mut trusted) = runtime.block_on(async {
        let identity = other.issue("caller", &["old.lab"], Validity::Now).unwrap();
        let distrusted = connect(&agent, &identity.trusting(harness.pki.ca())).await;
        let trusted = connect(&agent, &harness.pki.portal().unwrap()).await;
        (distrusted, trusted)
    });
    let is_served = |client: &mut HealthClient<Channel>| {
        let check = client.check(HealthCheckRequest::default());
        runtime.block_on(async { timeout(BOUND, check).await.unwrap().is_ok() })
    };
    assert!(is_served(&mut distrusted) && is_served(&mut trusted));

    fs::write(&harness.files.ca, ours).unwrap();
    agent.signal(Signal::SIGHUP);
    agent.wait_for_log("reloaded");
    until("the connection's close", BOUND, || {
        (!is_served(&mut distrusted)).then_some(())
    })
    .unwrap();
    assert!(is_served(&mut trusted));
    assert!(
        agent
            .wait_for_log("closed the connection of old.lab")
            .contains("a CA we do not trust")
    );
}
