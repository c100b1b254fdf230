//! From the start of the agent to its first response to a login, without and with stored decisions.
//!
//! The portal decides that login: it listens before the agent starts, and a login during the
//! agent's connect waits for the connection. So the figure has everything that a login waits for
//! after a restart: the configuration, the certificates, the stored decisions, and the TLS
//! handshake with the portal, of which only the double's half is not the agent's own time.

use std::thread;
use std::time::{Duration, Instant};

use ipc::Response;
use ipc::client::ClientError;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use testkit::lab::ManagedProcess;
use testkit::portal_double::Reply;
use testkit::wait;

use super::loopback::{Setup, login};
use super::process::Process;
use super::report::{Failure, Limit, Report, ensure};
use super::stats::{median, quantile, show};

const STARTS: usize = 15;
/// Decisions in the state directory.
const DECISIONS: usize = 1_000;
/// Pause between two attempts to connect to an agent that does not listen yet.
const RETRY_INTERVAL: Duration = Duration::from_micros(100);

const FIRST_RESPONSE: Limit = Limit::of(10.0, " ms", 1);

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let setup = Setup::new()?;
    // Otherwise the kernel extends every pause by up to 50 µs.
    prctl::set_timerslack(1)?;

    let mut times = starts(&setup, Signal::SIGTERM, || setup.remove_state())?;
    add_rows(report, "an empty state directory", &mut times);

    store_decisions(&setup)?;
    let mut times = starts(&setup, Signal::SIGTERM, || Ok(()))?;
    add_rows(report, &format!("{DECISIONS} stored decisions"), &mut times);

    let mut times = starts(&setup, Signal::SIGKILL, || Ok(()))?;
    report.note("  the same after a kill", "", &show(median(&mut times)));
    Ok(())
}

fn add_rows(report: &mut Report, state: &str, times: &mut [Duration]) {
    let time = median(times);
    report.at_most(
        &format!("start to first response, {state}"),
        "",
        &show(time),
        time.as_secs_f64() * 1e3,
        FIRST_RESPONSE,
    );
    report.note("  the slowest start", "", &show(quantile(times, 1.0)));
}

/// Measures starts, each after `prepare` and each agent stopped with `signal`.
fn starts(
    setup: &Setup,
    signal: Signal,
    prepare: impl Fn() -> Result<(), Failure>,
) -> Result<Vec<Duration>, Failure> {
    // The first start is not counted: it reads the program from the disk.
    (0..=STARTS)
        .map(|number| {
            prepare()?;
            let start = Instant::now();
            let agent = setup.start_agent()?;
            let response = first_response(&agent, setup, number)?;
            let time = start.elapsed();
            ensure(
                response.allowed && response.source.as_deref() == Some("portal"),
                format!("the first login got {response:?}"),
            )?;
            stop(&agent, signal)?;
            Ok(time)
        })
        .skip(1)
        .collect()
}

/// Sends a login until the agent responds.
fn first_response(agent: &ManagedProcess, setup: &Setup, number: usize) -> Result<Response, Failure> {
    let login = login("first", number + 1);
    let end = Instant::now() + wait::BOUND;
    loop {
        match setup.send(&login) {
            Err(ClientError::NotReachable(_)) if Instant::now() < end => thread::sleep(RETRY_INTERVAL),
            Err(error) => return Err(format!("{error}; log of the agent: {}", agent.logs()).into()),
            Ok(response) => return Ok(response),
        }
    }
}

/// Fills the state directory with [`DECISIONS`] decisions.
fn store_decisions(setup: &Setup) -> Result<(), Failure> {
    setup
        .portal()
        .on_check(Reply::allow_for(Duration::from_secs(3_600)));
    let agent = setup.start_agent()?;
    first_response(&agent, setup, 0)?;
    for number in 1..DECISIONS {
        let response = setup.send(&login(&format!("u{number}@example.org"), number + 1))?;
        ensure(response.allowed, format!("a login got {response:?}"))?;
    }
    Process(agent.pid()).wait_idle()?;
    stop(&agent, Signal::SIGTERM)?;
    setup.portal().on_check(Reply::allow_for(Duration::ZERO));
    Ok(())
}

fn stop(agent: &ManagedProcess, signal: Signal) -> Result<(), Failure> {
    agent.signal(signal);
    agent.wait_exit(wait::BOUND)?;
    Ok(())
}
