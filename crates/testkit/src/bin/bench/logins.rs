//! A hundred openconnect clients that log in at once, with the agent and the helper as they are
//! shipped, beside an ocserv that runs no script at all.

use std::time::{Duration, Instant};

use testkit::lab::{AgentOptions, Client, Lab};
use testkit::wait;

use super::report::{Failure, Limit, Report};
use super::stats::{median, median_of, ratio, show};
use super::{helper, listing};

const CLIENTS: u32 = 100;
const ROUNDS: usize = 9;
const TOTAL: Limit = Limit::ratio(1.10);

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let options = AgentOptions {
        log_level: "info".to_owned(),
        ..AgentOptions::default()
    };
    let bare = Lab::builder("bare").numbered_users(CLIENTS).start()?;
    let agent = Lab::builder("agent")
        .numbered_users(CLIENTS)
        .portal_dev("version = 1\ndefault = \"allow\"\n")
        .script(helper::wrapper()?)
        .agent(options)
        .start()?;
    // The portal decides the first round; what comes later is decided as it would be in an office
    // at nine o'clock.
    for lab in [&bare, &agent] {
        round(lab)?;
    }
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..ROUNDS {
        eprintln!("  round {} of {ROUNDS}", number + 1);
        let mut turns = [(0, &bare), (1, &agent)];
        turns.rotate_left(number % 2);
        for (index, lab) in turns {
            times[index].push(round(lab)?);
        }
    }
    let asked = agent.agent().logs().matches("login decided").count();
    let logins = (ROUNDS + 1) * usize::try_from(CLIENTS)?;
    super::report::ensure(
        asked == logins,
        format!("the agent decided {asked} of {logins} logins"),
    )?;
    let mut ratios: Vec<f64> = times[1]
        .iter()
        .zip(&times[0])
        .map(|(&time, &floor)| ratio(time, floor))
        .collect();
    let [floor, measured] = times.map(|mut times| median(&mut times));
    report.at_most(
        &format!("{CLIENTS} VPN logins at once"),
        &show(floor),
        &show(measured),
        median_of(&mut ratios),
        TOTAL,
    );
    Ok(())
}

/// From the start of the first client until the last one is in. Leaves nobody connected.
fn round(lab: &Lab) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let clients = lab.server().connect_many(CLIENTS);
    let time = begun.elapsed();
    let clients: Vec<Client> = clients.into_iter().collect::<Result<_, _>>()?;
    listing::end(clients);
    wait::until("all sessions to end", wait::BOUND, || {
        lab.rows().ok().filter(Vec::is_empty)
    })?;
    Ok(time)
}
