//! Memory of an idle agent that is connected to the reference portal and to a real ocserv.

use testkit::lab::{AgentOptions, Lab};

use super::helper;
use super::process::{Process, megabytes};
use super::report::{Failure, Limit, Report};

const RSS: Limit = Limit::of(15.0, " MB", 1);

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let options = AgentOptions {
        log_level: "info".to_owned(),
        ..AgentOptions::default()
    };
    let lab = Lab::builder("idle")
        .users(&["alice"])
        .portal_dev("version = 1\ndefault = \"allow\"\n")
        .script(helper::wrapper()?)
        .agent(options)
        .start()?;
    // After a login the agent is connected to the portal, and every part of it has run once.
    lab.server().connect("alice")?.disconnect(testkit::wait::BOUND)?;
    let agent = Process(lab.agent().process()?.pid());
    agent.wait_idle()?;
    let memory = agent.memory()?;
    let (rss, pss) = (megabytes(memory.rss), megabytes(memory.pss));
    report.at_most(
        "idle agent, resident memory",
        "",
        &format!("{rss:.1} MB"),
        rss,
        RSS,
    );
    report.note(
        "idle agent, proportional set size (PSS)",
        "",
        &format!("{pss:.1} MB"),
    );
    Ok(())
}
