//! What the tests on real ocserv have in common: one policy, and how to read what the portal heard.

use ocserv_agent_testkit::lab::{AgentOptions, Lab, LabBuilder};
use ocserv_agent_testkit::wait::{self, BOUND};
use serde_json::Value;

/// Lets everyone in but mallory.
pub const POLICY: &str = r#"
version = 1
default = "allow"

[[rules]]
verdict = "deny"
users = ["mallory"]
reason = "the account is suspended"
"#;

/// A lab with the real agent and the reference portal.
pub fn lab(name: &str) -> LabBuilder {
    Lab::builder(name)
        .users(&["alice", "bob", "mallory"])
        .portal_dev(POLICY)
        .agent(AgentOptions::default())
}

/// Whether a line of the portal's journal is of this kind and about this user.
pub fn about(line: &Value, kind: &str, user: &str) -> bool {
    line["kind"] == kind && line["username"] == user
}

/// All lines of a kind about a user.
pub fn heard(lab: &Lab, kind: &str, user: &str) -> Vec<Value> {
    lab.portal_dev()
        .events()
        .into_iter()
        .filter(|line| about(line, kind, user))
        .collect()
}

/// Waits for one line of a kind about a user.
pub fn wait_for(lab: &Lab, kind: &str, user: &str) -> Value {
    lab.portal_dev()
        .wait_for_event(&format!("{kind} of {user}"), BOUND, |line| {
            about(line, kind, user)
        })
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The agent's audit lines about the decisions on one user's logins.
pub fn decisions(lab: &Lab, user: &str) -> Vec<Value> {
    let logs = lab.agent().logs();
    let lines = logs
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["message"] == "login decided" && line["user"] == user)
        .collect()
}

/// Waits until ocserv has no row at all: no session, no login.
pub fn wait_for_nobody(lab: &Lab) {
    wait::until("an empty ocserv", BOUND, || lab.rows().ok().filter(Vec::is_empty))
        .unwrap_or_else(|error| panic!("{error}"));
}
