//! Cost of the pure cores, read from the estimates of `cargo bench -p resilience --bench cores`.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

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

/// Reads the median of a benchmark in nanoseconds.
fn estimate(name: &str) -> Result<f64, Failure> {
    let path = directory()?.join(name).join("new/estimates.json");
    let text = fs::read_to_string(&path).map_err(|error| {
        format!(
            "{} ({error}): run cargo bench -p resilience --bench cores",
            path.display()
        )
    })?;
    let estimates: Value = serde_json::from_str(&text)?;
    let median = estimates.pointer("/median/point_estimate");
    median
        .and_then(Value::as_f64)
        .ok_or_else(|| format!("{} has no median", path.display()).into())
}

/// Returns the directory of criterion's results: in the target directory, beside this program's
/// profile.
fn directory() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?;
    let target = program
        .ancestors()
        .nth(2)
        .ok_or("this program is not in a target directory")?;
    Ok(target.join("criterion"))
}
