//! The estimates that `cargo bench` leaves in the target directory.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::report::Failure;

/// Reads the median of a benchmark in nanoseconds.
pub(crate) fn estimate(name: &str) -> Result<f64, Failure> {
    let path = directory()?.join(name).join("new/estimates.json");
    let text = fs::read_to_string(&path)
        .map_err(|error| format!("{} ({error}): run cargo xtask bench", path.display()))?;
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
