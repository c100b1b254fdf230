//! Decisions from the cache one after another: the latency of a login without concurrent ones,
//! beside an echo server.

use std::time::Duration;

use super::cached::Cached;
use super::load;
use super::report::{Failure, Limit, Report};
use super::stats::{median, micros, quantile, show};

/// Logins in a round. The latencies of all rounds are one distribution.
const LOGINS: usize = 5_000;
const ROUNDS: usize = 4;

const P99: Limit = Limit::of(150.0, " µs", 0);

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let cached = Cached::start(LOGINS)?;
    let mut latencies: [Vec<Duration>; 2] = Default::default();
    for _ in 0..ROUNDS {
        let floor = load::closed_loop(cached.echo(), cached.logins(), 1)?;
        let measured = cached.run_round(|target| load::closed_loop(target, cached.logins(), 1))?;
        for (all, round) in latencies.iter_mut().zip([floor, measured]) {
            all.extend(round.latencies);
        }
    }
    let [floor, measured] = &mut latencies;
    let (floor_p99, measured_p99) = (quantile(floor, 0.99), quantile(measured, 0.99));
    report.at_most(
        "cached decisions one after another, p99",
        &show(floor_p99),
        &show(measured_p99),
        micros(measured_p99),
        P99,
    );
    report.note(
        "cached decisions one after another, p50",
        &show(median(floor)),
        &show(median(measured)),
    );
    Ok(())
}
