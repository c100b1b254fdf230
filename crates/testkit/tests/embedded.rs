//! A single server decides by a policy file of its own, without any portal.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use testkit::lab::{AgentOptions, Lab};
use testkit::scene::{POLICY, last_decision};
use testkit::wait::{self, BOUND};

/// A lab whose agent decides by a file with this policy.
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
fn a_policy_file_lets_in_and_keeps_out_without_any_portal() {
    let lab = lab("embedded", POLICY, "");
    lab.server().connect("alice").unwrap();
    let decision = last_decision(&lab, "alice");
    assert_eq!(
        (&decision["outcome"], &decision["source"]),
        (&"allow".into(), &"embedded".into())
    );
    assert!(lab.server().connect("mallory").unwrap_err().is_by_script());
    let decision = last_decision(&lab, "mallory");
    assert_eq!(
        (&decision["outcome"], &decision["source"]),
        (&"deny".into(), &"embedded".into())
    );
    assert_eq!(decision["reason"], "the account is suspended");
}

#[test]
fn a_changed_policy_file_counts_at_once_and_for_live_sessions_too_and_a_broken_one_does_not() {
    let lab = lab("embedded-change", POLICY, "sessions.sync_interval = \"300ms\"");
    let bob = lab.server().connect("bob").unwrap();

    fs::write(lab.portal_dev().policy_file(), "version = 1\nthis is no policy").unwrap();
    let told = lab.agent().wait_for_log("policy.toml:2", BOUND).unwrap();
    assert!(
        told.contains("\"level\":\"ERROR\"") || told.contains("\"level\":\"WARN\""),
        "{told}"
    );
    lab.server().connect("alice").unwrap();
    assert!(lab.server().connect("mallory").unwrap_err().is_by_script());
    assert!(bob.is_running());

    lab.portal_dev()
        .set_policy(
            "version = 1\ndefault = \"deny\"\n[[rules]]\nverdict = \"allow\"\nusers = [\"mallory\", \"alice\"]",
        )
        .unwrap();
    wait::until("the new policy", BOUND, || lab.server().connect("mallory").ok()).unwrap();
    assert!(lab.server().connect("bob").unwrap_err().is_by_script());
    bob.wait_ended(BOUND).unwrap();
    lab.server().connect("alice").unwrap();
}
