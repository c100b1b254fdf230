//! Checks values, alone and against each other, without I/O; reports every problem.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::Config;
use super::ipc::RESPONSE_MARGIN;

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
    pub(super) fn period(&mut self, key: &str, value: super::Period, most: Duration) {
        self.period_from(key, value, SHORTEST_PERIOD, most);
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

    /// Reports a relative path: it would depend on where the agent is started.
    pub(super) fn absolute(&mut self, key: &str, path: &Path) {
        if !path.is_absolute() {
            self.problem(key, format!("\"{}\" does not begin with a slash", path.display()));
        }
    }
}

pub(super) fn check(config: &Config) -> Vec<(String, String)> {
    let mut checker = Checker::default();
    let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !(1..=64).contains(&config.agent_id.len()) || !config.agent_id.bytes().all(is_name_byte) {
        let what = format!(
            "{:?} is no name of 1 to 64 letters, digits, dots, underscores or dashes",
            config.agent_id
        );
        checker.problem("agent_id", what);
    }
    let is_line = |text: &str| !text.is_empty() && text.len() <= 253 && !text.chars().any(char::is_control);
    if config.hostname.as_deref().is_some_and(|name| !is_line(name)) {
        checker.problem(
            "hostname",
            "is empty, too long, or contains a control character".to_owned(),
        );
    }
    if !is_line(&config.environment) {
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
    check_listeners_differ(config, &mut checker);
    checker.problems.extend(cross_check(config));
    checker.problems
}

/// The problems of values that are good alone but contradict each other.
pub(super) fn cross_check(config: &Config) -> Vec<(String, String)> {
    let mut checker = Checker::default();
    config
        .resilience
        .check_environment(&config.environment, &mut checker);
    check_budgets_nest(config, &mut checker);
    checker.problems
}

/// Two listeners cannot share an address or a path.
fn check_listeners_differ(config: &Config, checker: &mut Checker) {
    let listen = config.http.listen;
    if listen.port() != 0 && config.grpc.as_ref().is_some_and(|grpc| grpc.listen == listen) {
        checker.problem("http.listen", format!("{listen} is grpc.listen, too"));
    }
    if config.ipc.socket == config.ocserv.occtl_socket {
        let socket = config.ipc.socket.display();
        checker.problem("ipc.socket", format!("\"{socket}\" is ocserv.occtl_socket, too"));
    }
}

/// A caller must wait longer than what it calls takes: portal call < login < helper.
fn check_budgets_nest(config: &Config, checker: &mut Checker) {
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
        } else if call.0 + RESPONSE_MARGIN > login.0 {
            let what = format!(
                "{call} leaves less than {RESPONSE_MARGIN:?} of ipc.deadline ({login}) for the way back"
            );
            checker.problem("portal.timeout", what);
        }
    }
    if login >= helper {
        let what = format!("{login} is not shorter than ipc.helper_deadline ({helper})");
        checker.problem("ipc.deadline", what);
    }
}
