//! Counts tests as they run, and sums up the results of all releases.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// Numbers of tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

impl Tally {
    /// Adds the results in the last line of a test program.
    fn add(&mut self, line: &str) {
        let Some(results) = line.strip_prefix("test result: ") else {
            return;
        };
        for result in results.split(['.', ';']) {
            match result.trim().split_once(' ') {
                Some((count, "passed")) => self.passed += count.parse().unwrap_or(0),
                Some((count, "failed")) => self.failed += count.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// The results of one release.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) name: String,
    pub(super) tally: Tally,
    pub(super) passed: bool,
    pub(super) duration: Duration,
}

/// Runs test programs, prints their output and counts their tests. An error when one fails.
pub(super) fn count(command: &mut Command, tally: &mut Tally) -> anyhow::Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start the tests")?;
    if let Some(output) = child.stdout.take() {
        let mut stdout = std::io::stdout().lock();
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            tally.add(&String::from_utf8_lossy(&line));
            stdout.write_all(&line)?;
            stdout.write_all(b"\n")?;
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "tests failed: {status}");
    ensure!(tally.passed > 0, "no test was selected");
    Ok(())
}

/// Prints a line for each release. An error when the tests of one failed.
pub(super) fn conclude(reports: &[Report]) -> anyhow::Result<()> {
    eprintln!();
    for report in reports {
        let Tally { passed, failed } = report.tally;
        let verdict = if report.passed { "ok" } else { "FAILED" };
        let seconds = report.duration.as_secs();
        eprintln!(
            "-- {}: {verdict}, {passed} passed, {failed} failed, {seconds} s",
            report.name
        );
    }
    let failed: Vec<_> = reports.iter().filter(|report| !report.passed).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let names = failed.iter().map(|report| report.name.as_str());
    bail!("the tests failed on {}", names.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_all_programs_are_added_up() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.01s",
            "test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            tally.add(line);
        }
        assert_eq!(
            tally,
            Tally {
                passed: 12,
                failed: 1
            }
        );
    }

    #[test]
    fn programs_that_run_no_test_are_a_failure() {
        let mut tally = Tally::default();
        let error = count(Command::new("sh").args(["-c", "exit 0"]), &mut tally).unwrap_err();
        assert_eq!(error.to_string(), "no test was selected");
        let error = count(Command::new("sh").args(["-c", "exit 3"]), &mut tally).unwrap_err();
        assert!(error.to_string().starts_with("tests failed"), "{error}");
    }
}
