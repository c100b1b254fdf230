//! Decisions of the portal, beside the bare call over an open connection.

use std::net::TcpStream;
use std::time::Instant;

use ocserv_agent_proto::vpn::v1::CheckPolicyRequest;
use ocserv_agent_proto::vpn::v1::auth_service_client::AuthServiceClient;
use testkit::grpc::Channel;
use testkit::pki::PORTAL_NAMES;
use tokio::runtime;

use super::loopback::{Loopback, login};
use super::report::{Failure, Limit, Report, ensure};
use super::stats::{median, micros, show};

const ROUNDS: usize = 9;
/// Consecutive calls: cold caches and sleeping processors are not compared.
const CALLS: usize = 200;
const WARM_UP: usize = 20;
/// Most time that the agent adds.
const OVERHEAD: Limit = Limit::of(150.0, " µs", 0);

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let agent = Loopback::start()?;
    let identity = agent.pki().agent()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let stream = TcpStream::connect(agent.portal().address())?;
    stream.set_nodelay(true)?;
    let channel = runtime.block_on(Channel::open(stream, &identity, PORTAL_NAMES[0]))?;
    let mut bare = AuthServiceClient::new(channel);

    let mut times = [Vec::new(), Vec::new()];
    for number in 0..ROUNDS * CALLS {
        if number % CALLS == 0 {
            // The events of the round before have been delivered then.
            agent.process().wait_idle()?;
        }
        let request = check_request(number);
        let start = Instant::now();
        let decision = runtime.block_on(bare.check_policy(request))?.into_inner();
        let bare_time = start.elapsed();
        ensure(decision.allowed, "the bare call was not allowed")?;

        let login = login("alice", number + 2);
        let start = Instant::now();
        let response = agent.send(&login)?;
        let agent_time = start.elapsed();
        ensure(
            response.allowed && response.source.as_deref() == Some("portal"),
            format!("a login got {response:?}"),
        )?;
        if number % CALLS >= WARM_UP {
            times[0].push(bare_time);
            times[1].push(agent_time);
        }
    }
    let [floor, measured] = times.map(|mut times| median(&mut times));
    report.at_most(
        "decision from the portal on loopback, p50, over the bare call",
        &show(floor),
        &show(measured),
        micros(measured) - micros(floor),
        OVERHEAD,
    );
    Ok(())
}

/// Returns the call that the agent makes for such a login.
fn check_request(number: usize) -> CheckPolicyRequest {
    CheckPolicyRequest {
        username: "alice".to_owned(),
        groupname: "staff".to_owned(),
        client_ip: "192.0.2.17".to_owned(),
        vpn_ip: "10.88.63.50".to_owned(),
        session_id: (number + 2).to_string(),
        device: "vpns0".to_owned(),
        request_time: None,
        vhost: String::new(),
    }
}
