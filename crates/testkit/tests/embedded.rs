//! An agent without a portal decides by its own policy file.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use testkit::harness::{POLICY, last_decision};
use testkit::lab::{AgentOptions, Lab};
use testkit::wait::{self, BOUND};

/// Starts a lab whose agent has this policy file.
fn lab(name: &str, policy: &str, extra: &str) -> Lab {
    let lab = Lab::builder(name)
        .users(&["alice", "bob", "mallory"])
        .deployed_script()
        .start()
        .unwrap();
    lab.portal_dev().set_policy(policy).unwrap();
    let options = AgentOptions {
        policy_file: Some(lab.portal_dev().policy_file()),
        extra: extra.to_owned(),
        ..AgentOptions::default()
    };
    lab.agent().start(&options).unwrap();
    lab
}

#[test]
fn a_policy_file_allows_and_denies_without_a_portal() {
    let lab = lab("embedded", POLICY, "");
    lab.server().connect("alice").unwrap();
    let decision = last_decision(&lab, "alice");
    assert_eq!(
        (&decision["outcome"], &decision["source"]),
        (&"allow".into(), &"embedded".into())
    );
    assert!(lab.server().connect("mallory").unwrap_err().is_session_denied());
    let decision = last_decision(&lab, "mallory");
    assert_eq!(
        (&decision["outcome"], &decision["source"]),
        (&"deny".into(), &"embedded".into())
    );
    assert_eq!(decision["reason"], "the account is suspended");
}

#[test]
fn a_changed_policy_file_applies_to_live_sessions_too_and_a_broken_one_is_ignored() {
    let lab = lab("embedded-change", POLICY, "sessions.sync_interval = \"300ms\"");
    let bob = lab.server().connect("bob").unwrap();

    fs::write(lab.portal_dev().policy_file(), "version = 1\nnot a policy").unwrap();
    let line = lab.agent().wait_for_log("policy.toml:2", BOUND).unwrap();
    assert!(
        line.contains("\"level\":\"ERROR\"") || line.contains("\"level\":\"WARN\""),
        "{line}"
    );
    lab.server().connect("alice").unwrap();
    assert!(lab.server().connect("mallory").unwrap_err().is_session_denied());
    assert!(bob.is_running());

    lab.portal_dev()
        .set_policy(
            "version = 1\ndefault = \"deny\"\n[[rules]]\nverdict = \"allow\"\nusers = [\"mallory\", \"alice\"]",
        )
        .unwrap();
    wait::until("new policy", BOUND, || lab.server().connect("mallory").ok()).unwrap();
    assert!(lab.server().connect("bob").unwrap_err().is_session_denied());
    bob.wait_ended(BOUND).unwrap();
    lab.server().connect("alice").unwrap();
}
