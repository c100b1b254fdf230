//! Whether the values make sense, alone and together. Every problem is found, not just the first.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::Config;

/// Collects what is wrong: the key and a text that fits after it.
#[derive(Debug, Default)]
pub(super) struct Checker {
    pub(super) problems: Vec<(String, String)>,
}

impl Checker {
    pub(super) fn problem(&mut self, key: &str, what: String) {
        self.problems.push((key.to_owned(), what));
    }

    /// A time that has to be there: over nothing and not over `most`.
    pub(super) fn period(&mut self, key: &str, value: super::Period, most: Duration) {
        if value.0.is_zero() || value.0 > most {
            let most = humantime::format_duration(most);
            self.problem(key, format!("{value} is not between 1ms and {most}"));
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

    pub(super) fn absolute(&mut self, key: &str, path: &Path) {
        if !path.is_absolute() {
            self.problem(key, format!("\"{}\" does not begin with a slash", path.display()));
        }
    }
}

pub(super) fn check(config: &Config) -> Vec<(String, String)> {
    let mut checker = Checker::default();
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !(1..=64).contains(&config.agent_id.len()) || !config.agent_id.bytes().all(word) {
        let what = format!(
            "{:?} is no name of 1 to 64 letters, digits, dots, underscores or dashes",
            config.agent_id
        );
        checker.problem("agent_id", what);
    }
    let line = |text: &str| !text.is_empty() && text.len() <= 253 && !text.chars().any(char::is_control);
    if config.hostname.as_deref().is_some_and(|name| !line(name)) {
        checker.problem(
            "hostname",
            "is empty, too long, or contains a control character".to_owned(),
        );
    }
    if !line(&config.environment) {
        checker.problem(
            "environment",
            "is empty, too long, or contains a control character".to_owned(),
        );
    }
    checker.absolute("state_dir", &config.state_dir);
    config.portal.check(&mut checker);
    config.resilience.check(&config.environment, &mut checker);
    config.ipc.check(&mut checker);
    if let Some(grpc) = &config.grpc {
        grpc.check(&mut checker);
    }
    config.ocserv.check(&mut checker);
    config.sessions.check(&mut checker);
    config.events.check(&mut checker);
    config.log.check(&mut checker);
    budgets_nest(config, &mut checker);
    checker.problems
}

/// Who asks must wait longer than who answers, or an answer comes to nobody: portal call < login < helper.
fn budgets_nest(config: &Config, checker: &mut Checker) {
    let budgets = [
        ("portal.timeout", config.portal.timeout),
        ("ipc.deadline", config.ipc.deadline),
        ("ipc.helper_deadline", config.ipc.helper_deadline),
    ];
    if config.portal.mode == super::PortalMode::Portal
        && config.portal.timeout > config.resilience.circuit_breaker.timeout
    {
        let (call, open) = (config.portal.timeout, config.resilience.circuit_breaker.timeout);
        let what = format!(
            "{call} is longer than resilience.circuit_breaker.timeout ({open}), within which a probe has to end"
        );
        checker.problem("portal.timeout", what);
    }
    for pair in budgets.windows(2) {
        let [(inner, short), (outer, long)] = pair else {
            continue;
        };
        if short >= long {
            checker.problem(inner, format!("{short} is not shorter than {outer} ({long})"));
        }
    }
}
