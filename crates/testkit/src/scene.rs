//! What the tests on real ocserv have in common: one policy, how to read what happened, how to look at the agent.
#![expect(clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{AgentOptions, Lab, LabBuilder, Place, Question};
use crate::wait::{self, BOUND};

/// Lets everyone in but mallory.
pub const POLICY: &str = r#"
version = 1
default = "allow"

[[rules]]
verdict = "deny"
users = ["mallory"]
reason = "the account is suspended"
"#;

/// How long one mark in the agent's log is waited for before another one is made.
const MARK_WITHIN: Duration = Duration::from_secs(2);

/// A lab with the real agent and the reference portal.
#[must_use]
pub fn lab(name: &str) -> LabBuilder {
    Lab::builder(name)
        .users(&["alice", "bob", "mallory"])
        .portal_dev(POLICY)
        .agent(AgentOptions::default())
}

/// An agent that finds its portal again at once, with further settings in TOML.
#[must_use]
pub fn eager(extra: &str) -> AgentOptions {
    AgentOptions {
        extra: format!("portal.reconnect = {{ initial_delay = \"20ms\", max_delay = \"100ms\" }}\n{extra}"),
        ..AgentOptions::default()
    }
}

/// Has the running agent take over other settings, and waits until it has.
///
/// # Panics
/// When it does not take them over.
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
    wait::until("the new settings", BOUND, || (count() > before).then_some(()))
        .unwrap_or_else(|error| panic!("{error}; the agent said:\n{}", lab.agent().logs()));
}

/// Whether a line of the portal's journal is of this kind and about this user.
#[must_use]
pub fn about(line: &Value, kind: &str, user: &str) -> bool {
    line["kind"] == kind && line["username"] == user
}

/// All lines of a kind about a user.
#[must_use]
pub fn heard(lab: &Lab, kind: &str, user: &str) -> Vec<Value> {
    lab.portal_dev()
        .events()
        .into_iter()
        .filter(|line| about(line, kind, user))
        .collect()
}

/// Waits for one line of a kind about a user.
///
/// # Panics
/// When none comes.
pub fn wait_for(lab: &Lab, kind: &str, user: &str) -> Value {
    lab.portal_dev()
        .wait_for_event(&format!("{kind} of {user}"), BOUND, |line| {
            about(line, kind, user)
        })
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The agent's log lines with this message, since its last start. All that it has said by now is among them.
#[must_use]
pub fn said(lab: &Lab, message: &str) -> Vec<Value> {
    catch_up(lab);
    let logs = lab.agent().logs();
    let lines = logs
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

/// Waits until the log of a running agent has come as far as the agent: it is written behind the agent's back, in order.
/// A login that makes no sense is the mark: it is refused, with an audit line, before anyone is asked about it.
fn catch_up(lab: &Lab) {
    let marked = wait::until("the agent's log to catch up", BOUND, || {
        let mark = Question::login("mark").with("ip_real", "nowhere");
        if mark.ask(lab).is_err() {
            return lab.agent().process().is_err().then_some(());
        }
        wait::until("the mark", MARK_WITHIN, || {
            lab.agent().logs().contains(mark.id()).then_some(())
        })
        .ok()
    });
    marked.unwrap_or_else(|error| panic!("{error}"));
}

/// The agent's audit lines about the decisions on one user's logins, since its last start.
#[must_use]
pub fn decisions(lab: &Lab, user: &str) -> Vec<Value> {
    let mut lines = said(lab, "login decided");
    lines.retain(|line| line["user"] == user);
    lines
}

/// The agent's audit line about the last decision on a user's login.
///
/// # Panics
/// When there was none since its last start.
#[must_use]
pub fn last_decision(lab: &Lab, user: &str) -> Value {
    decisions(lab, user)
        .pop()
        .unwrap_or_else(|| panic!("no login of {user} was decided:\n{}", lab.agent().logs()))
}

/// How the breaker changed since the agent's last start, as `closed > open`, in order.
#[must_use]
pub fn transitions(lab: &Lab) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    said(lab, "circuit breaker")
        .iter()
        .map(|line| format!("{} > {}", word(&line["from"]), word(&line["to"])))
        .collect()
}

/// Waits until ocserv has no row at all: no session, no login.
///
/// # Panics
/// When it keeps one.
pub fn wait_for_nobody(lab: &Lab) {
    wait::until("an empty ocserv", BOUND, || lab.rows().ok().filter(Vec::is_empty))
        .unwrap_or_else(|error| panic!("{error}"));
}

/// What the agent serves over HTTP at `path`: status and body.
///
/// # Errors
/// When it does not answer.
pub fn http_get(lab: &Lab, path: &str) -> io::Result<(u16, String)> {
    let mut stream = lab.connect_tcp(Place::Server, SocketAddr::from(([127, 0, 0, 1], 9090)))?;
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

/// What the agent takes of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Footprint {
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// Threads.
    pub threads: u64,
}

/// What the running agent takes of the machine now.
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
