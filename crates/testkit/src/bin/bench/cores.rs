//! Cost of the pure cores, read from the estimates of `cargo bench -p resilience --bench cores`.

use super::estimate::estimate;
use super::report::{Failure, Limit, Report};

const FLOOR: &str = "hashmap_get_floor";

const CORES: [(&str, &str, f64); 3] = [
    ("cache_lookup", "cache lookup among 10,000", 300.0),
    ("breaker_admit_settle", "breaker, admit and settle", 200.0),
    (
        "shared_breaker_admit_settle",
        "breaker behind its lock, admit and settle",
        200.0,
    ),
];

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let floor = estimate(FLOOR)?;
    for (name, figure, limit) in CORES {
        let measured = estimate(name)?;
        report.at_most(
            figure,
            &format!("{floor:.0} ns"),
            &format!("{measured:.0} ns"),
            measured,
            Limit::of(limit, " ns", 0),
        );
    }
    Ok(())
}
