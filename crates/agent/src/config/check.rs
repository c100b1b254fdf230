//! Whether the values make sense, alone and together. Every problem is found, not just the first.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::Config;
use crate::pipeline::MARGIN;

/// The shortest time that is more than the noise of clocks and schedulers.
pub(super) const MOMENT: Duration = Duration::from_millis(10);

/// Collects what is wrong: the key and a text that fits after it.
#[derive(Debug, Default)]
pub(super) struct Checker {
    pub(super) problems: Vec<(String, String)>,
}

impl Checker {
    pub(super) fn problem(&mut self, key: &str, what: String) {
        self.problems.push((key.to_owned(), what));
    }

    /// A time that has to be there: a moment at least, and not over `most`.
    pub(super) fn period(&mut self, key: &str, value: super::Period, most: Duration) {
        self.period_from(key, value, MOMENT, most);
    }

    pub(super) fn period_from(&mut self, key: &str, value: super::Period, least: Duration, most: Duration) {
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

    /// Whether `path` means the same wherever the agent is started.
    pub(super) fn absolute(&mut self, key: &str, path: &Path) -> bool {
        if !path.is_absolute() {
            self.problem(key, format!("\"{}\" does not begin with a slash", path.display()));
        }
        path.is_absolute()
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
    config.resilience.check(&mut checker);
    config.ipc.check(&mut checker);
    if let Some(grpc) = &config.grpc {
        grpc.check(&mut checker);
    }
    config.ocserv.check(&mut checker);
    config.sessions.check(&mut checker);
    config.events.check(&mut checker);
    config.log.check(&mut checker);
    doors_differ(config, &mut checker);
    checker.problems.extend(together(config));
    checker.problems
}

/// What is wrong with values that are good alone.
pub(super) fn together(config: &Config) -> Vec<(String, String)> {
    let mut checker = Checker::default();
    config
        .resilience
        .check_environment(&config.environment, &mut checker);
    budgets_nest(config, &mut checker);
    checker.problems
}

/// One address or path cannot be two doors.
fn doors_differ(config: &Config, checker: &mut Checker) {
    let listen = config.http.listen;
    if listen.port() != 0 && config.grpc.as_ref().is_some_and(|grpc| grpc.listen == listen) {
        checker.problem("http.listen", format!("{listen} is grpc.listen, too"));
    }
    if config.ipc.socket == config.ocserv.occtl_socket {
        let socket = config.ipc.socket.display();
        checker.problem("ipc.socket", format!("\"{socket}\" is ocserv.occtl_socket, too"));
    }
}

/// Who asks must wait longer than who answers, or an answer comes to nobody: portal call < login < helper.
fn budgets_nest(config: &Config, checker: &mut Checker) {
    let (call, login, helper) = (
        config.portal.timeout,
        config.ipc.deadline,
        config.ipc.helper_deadline,
    );
    if config.portal.mode == super::PortalMode::Portal {
        let open = config.resilience.circuit_breaker.timeout;
        if call > open {
            let what = format!(
                "{call} is longer than resilience.circuit_breaker.timeout ({open}), within which a probe has to end"
            );
            checker.problem("portal.timeout", what);
        }
        if call >= login {
            let what = format!("{call} is not shorter than ipc.deadline ({login})");
            checker.problem("portal.timeout", what);
        } else if call.0 + MARGIN > login.0 {
            let what =
                format!("{call} leaves less than {MARGIN:?} of ipc.deadline ({login}) for the way back");
            checker.problem("portal.timeout", what);
        }
    }
    if login >= helper {
        let what = format!("{login} is not shorter than ipc.helper_deadline ({helper})");
        checker.problem("ipc.deadline", what);
    }
}
