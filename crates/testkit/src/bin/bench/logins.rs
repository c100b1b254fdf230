//! A hundred concurrent logins of openconnect clients, with agent and helper as shipped, beside an
//! ocserv without a script.

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
    // The portal decides the first round, which is not counted; later decisions are cached.
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
    let decided = agent.agent().logs().matches("login decided").count();
    let logins = (ROUNDS + 1) * usize::try_from(CLIENTS)?;
    super::report::ensure(
        decided == logins,
        format!("the agent decided {decided} of {logins} logins"),
    )?;
    let mut ratios: Vec<f64> = times[1]
        .iter()
        .zip(&times[0])
        .map(|(&time, &floor)| ratio(time, floor))
        .collect();
    let [floor, measured] = times.map(|mut times| median(&mut times));
    report.at_most(
        &format!("{CLIENTS} concurrent VPN logins"),
        &show(floor),
        &show(measured),
        median_of(&mut ratios),
        TOTAL,
    );
    Ok(())
}

/// Measures from the start of the first client until the last one is connected. Disconnects all.
fn round(lab: &Lab) -> Result<Duration, Failure> {
    let start = Instant::now();
    let clients = lab.server().connect_many(CLIENTS);
    let time = start.elapsed();
    let clients: Vec<Client> = clients.into_iter().collect::<Result<_, _>>()?;
    listing::disconnect_all(clients);
    wait::until("empty list of ocserv", wait::BOUND, || {
        lab.rows().ok().filter(Vec::is_empty)
    })?;
    Ok(time)
}
