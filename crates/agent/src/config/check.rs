//! Checks values, alone and against each other, without I/O; reports every problem.

use super::checker::Checker;
use super::ipc::RESPONSE_MARGIN;
use super::portal::Mode;
use super::schema::Config;

pub(super) fn check(config: &Config) -> Vec<(String, String)> {
    let mut problems = check_each(config);
    problems.extend(cross_check(config));
    problems
}

/// The problems of single values.
pub(super) fn check_each(config: &Config) -> Vec<(String, String)> {
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
    checker.absolute("state_dir", &config.state_dir);
    config.portal.check(&mut checker);
    config.resilience.check(&mut checker);
    config.ipc.check(&mut checker);
    if let Some(grpc) = &config.grpc {
        grpc.check(&mut checker);
    }
    config.ocserv.check(&mut checker);
    config.sessions.check(&mut checker);
    config.outbox.check(&mut checker);
    config.health.check(&mut checker);
    config.log.check(&mut checker);
    check_listeners_differ(config, &mut checker);
    checker.problems
}

/// The problems of values that are good alone but contradict each other.
pub(super) fn cross_check(config: &Config) -> Vec<(String, String)> {
    let mut checker = Checker::default();
    config
        .resilience
        .check_environment(config.environment, &mut checker);
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
    if config.portal.mode == Mode::Portal {
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
