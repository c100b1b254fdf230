//! Collects the problems of values.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::period::Period;

/// The shortest period that stands out from the noise of clocks and schedulers.
pub(super) const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// Collects problems: a key, and a fragment that fits after it.
#[derive(Debug, Default)]
pub(super) struct Checker {
    pub(super) problems: Vec<(String, String)>,
}

impl Checker {
    pub(super) fn problem(&mut self, key: &str, what: String) {
        self.problems.push((key.to_owned(), what));
    }

    /// Reports a period outside of [`SHORTEST_PERIOD`] to `most`.
    pub(super) fn period(&mut self, key: &str, value: Period, most: Duration) {
        self.period_from(key, value, SHORTEST_PERIOD, most);
    }

    pub(super) fn period_from(&mut self, key: &str, value: Period, least: Duration, most: Duration) {
        if !(least..=most).contains(&value.0) {
            let (least, most) = (
                humantime::format_duration(least),
                humantime::format_duration(most),
            );
            self.problem(key, format!("{value} is not between {least} and {most}"));
        }
    }

    pub(super) fn count(&mut self, key: &str, value: usize, range: RangeInclusive<usize>) {
        if !range.contains(&value) {
            self.problem(
                key,
                format!("{value} is not between {} and {}", range.start(), range.end()),
            );
        }
    }

    /// Reports a relative path, which would depend on where the agent is started, and one that
    /// would break a line of the log.
    pub(super) fn absolute(&mut self, key: &str, path: &Path) {
        if !path.is_absolute() {
            self.problem(key, format!("\"{}\" does not begin with a slash", path.display()));
        } else if path.to_string_lossy().chars().any(char::is_control) {
            self.problem(
                key,
                format!("\"{}\" contains a control character", path.display()),
            );
        }
    }
}
