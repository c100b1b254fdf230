//! A decision that the portal makes, beside the bare call of the portal over a connection that
//! stands.

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
/// Calls in a row: cold caches and sleeping processors are not what is compared.
const CALLS: usize = 200;
const WARM_UP: usize = 20;
/// What the agent may take for itself.
const SHARE: Limit = Limit::of(150.0, " µs", 0);

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let agent = Loopback::start("")?;
    let identity = agent.pki().agent()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let stream = TcpStream::connect(agent.portal().address())?;
    stream.set_nodelay(true)?;
    let channel = runtime.block_on(Channel::open(stream, &identity, PORTAL_NAMES[0]))?;
    let mut bare = AuthServiceClient::new(channel);

    let mut times = [Vec::new(), Vec::new()];
    for number in 0..ROUNDS * CALLS {
        if number % CALLS == 0 {
            // What follows the answers of the round before is over then.
            agent.program().settle()?;
        }
        let question = question(number);
        let begun = Instant::now();
        let said = runtime.block_on(bare.check_policy(question))?.into_inner();
        let bare_time = begun.elapsed();
        ensure(said.allowed, "the bare call was not allowed")?;

        let login = login("alice", number + 2);
        let begun = Instant::now();
        let answer = agent.ask(&login)?;
        let agent_time = begun.elapsed();
        ensure(
            answer.allowed && answer.source.as_deref() == Some("portal"),
            format!("a login got {answer:?}"),
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
        SHARE,
    );
    Ok(())
}

/// What the agent asks, as plainly.
fn question(pair: usize) -> CheckPolicyRequest {
    CheckPolicyRequest {
        username: "alice".to_owned(),
        groupname: "staff".to_owned(),
        client_ip: "192.0.2.17".to_owned(),
        vpn_ip: "10.88.63.50".to_owned(),
        session_id: (pair + 2).to_string(),
        device: "vpns0".to_owned(),
        request_time: None,
    }
}
