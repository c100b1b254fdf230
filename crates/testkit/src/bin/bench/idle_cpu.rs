//! Processor time of an idle agent that is connected to a portal and to an ocserv, with every
//! interval at its default.

use std::thread;
use std::time::Duration;

use testkit::fake_control::FakeControl;

use super::loopback::Setup;
use super::report::{Failure, Limit, Report};

/// Time after the start in which what the start has left, such as idle threads, ends.
const SETTLE_TIME: Duration = Duration::from_secs(12);
/// Measured time: a multiple of every interval in which an idle agent does something.
const WINDOW: Duration = Duration::from_secs(30);
const PER_MINUTE: Limit = Limit::of(1.5, " ms", 2);

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let setup = Setup::new()?;
    let _ocserv = FakeControl::start(&setup.control_socket())?;
    let agent = setup.connected_agent()?;
    agent.process().wait_idle()?;
    thread::sleep(SETTLE_TIME);

    let before = agent.process().processor_time()?;
    thread::sleep(WINDOW);
    let used = agent.process().processor_time()?.saturating_sub(before);
    let per_minute = used.as_secs_f64() * 60.0 / WINDOW.as_secs_f64() * 1e3;
    report.at_most(
        "idle agent, processor time per minute",
        "",
        &format!("{per_minute:.2} ms"),
        per_minute,
        PER_MINUTE,
    );
    Ok(())
}
