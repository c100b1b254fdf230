//! What the tests on real ocserv share: a policy, access to events and logs, probes of the agent.
#![expect(clippy::panic, reason = "a test that cannot go on fails")]

pub mod disk;

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{AgentOptions, Client, ConnectOptions, IpcRequest, Lab, LabBuilder, Node, Rejected};
use crate::wait::{self, BOUND};

/// Allows every user but mallory.
pub const POLICY: &str = r#"
version = 1
default = "allow"

[[rules]]
verdict = "deny"
users = ["mallory"]
reason = "the account is suspended"
"#;

/// Longest wait for one marker in the agent's log before another one is sent.
const MARKER_TIMEOUT: Duration = Duration::from_secs(2);

/// Builds a lab with the agent and the reference portal.
#[must_use]
pub fn lab(name: &str) -> LabBuilder {
    Lab::builder(name)
        .users(&["alice", "bob", "mallory"])
        .portal_dev(POLICY)
        .agent(AgentOptions::default())
}

/// Logs alice in and returns a function that connects with the cookie.
///
/// # Panics
/// When she cannot log in.
pub fn connect_by_cookie(lab: &Lab) -> impl Fn() -> Result<Client, Rejected> + '_ {
    let cookie = lab.server().authenticate("alice");
    let options = ConnectOptions {
        cookie: Some(cookie.unwrap_or_else(|error| panic!("alice cannot log in: {error}"))),
        ..ConnectOptions::default()
    };
    move || lab.server().connect_with("alice", &options)
}

/// Returns settings of an agent that reconnects to its portal without delay, with further TOML.
#[must_use]
pub fn fast_reconnect(extra: &str) -> AgentOptions {
    AgentOptions {
        extra: format!("portal.reconnect = {{ initial_delay = \"20ms\", max_delay = \"100ms\" }}\n{extra}"),
        ..AgentOptions::default()
    }
}

/// Reloads the running agent with other settings.
///
/// # Panics
/// When it does not reload.
pub fn reload(lab: &Lab, options: &AgentOptions) {
    let count = || {
        let logs = lab.agent().logs();
        logs.lines()
            .filter(|line| line.contains("\"message\":\"reloaded\""))
            .count()
    };
    let before = count();
    lab.agent()
        .write_config(options)
        .unwrap_or_else(|error| panic!("{error}"));
    lab.agent().reload().unwrap_or_else(|error| panic!("{error}"));
    wait::until("reload", BOUND, || (count() > before).then_some(()))
        .unwrap_or_else(|error| panic!("{error}; log of the agent:\n{}", lab.agent().logs()));
}

/// Whether a line of the portal's journal has this kind and this user.
#[must_use]
pub fn is_event_of(line: &Value, kind: &str, user: &str) -> bool {
    line["kind"] == kind && line["username"] == user
}

/// Lists the portal's events of a kind for a user.
#[must_use]
pub fn events_of(lab: &Lab, kind: &str, user: &str) -> Vec<Value> {
    lab.portal_dev()
        .events()
        .into_iter()
        .filter(|line| is_event_of(line, kind, user))
        .collect()
}

/// Waits for one event of a kind for a user.
///
/// # Panics
/// When there is none.
pub fn wait_for_event(lab: &Lab, kind: &str, user: &str) -> Value {
    lab.portal_dev()
        .wait_for_event(&format!("{kind} of {user}"), BOUND, |line| {
            is_event_of(line, kind, user)
        })
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Lists the agent's log lines with this message since its last start, complete up to now.
#[must_use]
pub fn log_lines(lab: &Lab, message: &str) -> Vec<Value> {
    flush_log(lab);
    let logs = lab.agent().logs();
    let lines = logs
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

/// Waits until the log of a running agent is complete: it is written asynchronously and in order.
/// The marker is an invalid login, which is denied with an audit line and without a decision.
fn flush_log(lab: &Lab) {
    let flushed = wait::until("complete log of the agent", BOUND, || {
        let marker = IpcRequest::login("marker").with("ip_real", "nowhere");
        if marker.call(lab).is_err() {
            return lab.agent().process().is_err().then_some(());
        }
        wait::until("marker in the log", MARKER_TIMEOUT, || {
            lab.agent().logs().contains(marker.session_id()).then_some(())
        })
        .ok()
    });
    flushed.unwrap_or_else(|error| panic!("{error}"));
}

/// Lists the agent's audit lines about one user's logins since its last start.
#[must_use]
pub fn decisions(lab: &Lab, user: &str) -> Vec<Value> {
    let mut lines = log_lines(lab, "login decided");
    lines.retain(|line| line["user"] == user);
    lines
}

/// Returns the agent's audit line about a user's last login.
///
/// # Panics
/// When there is none since its last start.
#[must_use]
pub fn last_decision(lab: &Lab, user: &str) -> Value {
    decisions(lab, user)
        .pop()
        .unwrap_or_else(|| panic!("no login of {user} was decided:\n{}", lab.agent().logs()))
}

/// Lists the breaker's transitions since the agent's last start, in order, as `closed > open`.
#[must_use]
pub fn breaker_transitions(lab: &Lab) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    log_lines(lab, "circuit breaker")
        .iter()
        .map(|line| format!("{} > {}", word(&line["from"]), word(&line["to"])))
        .collect()
}

/// Waits until ocserv lists neither a session nor a login.
///
/// # Panics
/// When one stays.
pub fn wait_until_empty(lab: &Lab) {
    wait::until("empty list of ocserv", BOUND, || {
        lab.rows().ok().filter(Vec::is_empty)
    })
    .unwrap_or_else(|error| panic!("{error}"));
}

/// Gets `path` from the agent's HTTP server: status and body.
///
/// # Errors
/// When it does not reply.
pub fn http_get(lab: &Lab, path: &str) -> io::Result<(u16, String)> {
    let mut stream = lab.connect_tcp(Node::Server, SocketAddr::from(([127, 0, 0, 1], 9090)))?;
    stream.set_read_timeout(Some(BOUND))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
}

/// Resources that the agent uses.
#[derive(Debug, Clone, Copy)]
pub struct Footprint {
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// Number of threads.
    pub threads: u64,
}

/// Measures the resources of the running agent.
///
/// # Panics
/// When it is not running.
#[must_use]
pub fn footprint(lab: &Lab) -> Footprint {
    let pid = lab
        .agent()
        .process()
        .unwrap_or_else(|error| panic!("{error}"))
        .pid();
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_else(|error| panic!("{error}"));
    let figure = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    Footprint {
        rss_kib: figure("VmRSS:"),
        threads: figure("Threads:"),
    }
}
