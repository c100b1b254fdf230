//! Tests of parsing and evaluation.

use std::net::IpAddr;
use std::time::Duration;

use ocserv_agent_model::{DenyCode, GroupName, Username, Verdict, VhostName};

use crate::{Evaluation, Policy};

mod errors;
mod model_check;
mod policy_copy;
mod policy_file;
mod vhosts;

const EXAMPLE: &str = include_str!("../../../docs/examples/policy.toml");

fn policy(body: &str) -> Policy {
    Policy::parse(&format!("version = 1\n{body}"), "policy.toml").unwrap()
}

/// The error of an invalid file whose first line is the version.
fn error(body: &str) -> String {
    Policy::parse(&format!("version = 1\n{body}"), "policy.toml")
        .unwrap_err()
        .to_string()
}

fn evaluate(policy: &Policy, user: &str, group: Option<&str>, from: &str) -> Evaluation {
    let group = group.map(|group| GroupName::parse(group).unwrap());
    policy.evaluate(
        &Username::parse(user).unwrap(),
        group.as_ref(),
        &VhostName::default(),
        from.parse().unwrap(),
    )
}

/// `allow`, or the reason of the deny.
fn outcome(evaluation: &Evaluation) -> String {
    match &evaluation.verdict {
        Verdict::Allow(_) => "allow".to_owned(),
        Verdict::Deny(refusal) => {
            assert_eq!(refusal.code, DenyCode::Policy);
            refusal.reason.clone()
        }
    }
}

#[test]
fn the_example_file_is_valid_and_matches_its_comments() {
    let policy = Policy::parse(EXAMPLE, "policy.toml").unwrap();
    for (user, group, from, expected, ttl) in [
        ("alice", None, "192.0.2.1", "allow", 300),
        (
            "alice",
            Some("contractors"),
            "203.0.113.9",
            "not from this network",
            300,
        ),
        (
            "dave",
            Some("contractors"),
            "203.0.113.9",
            "not from this network",
            300,
        ),
        (
            "dave",
            Some("contractors"),
            "198.51.100.7",
            "not from this network",
            300,
        ),
        ("dave", Some("contractors"), "198.51.100.8", "allow", 300),
        ("erin", Some("staff"), "2001:db8:bad::1", "allow", 300),
        (
            "mallory",
            Some("staff"),
            "192.0.2.1",
            "the account is suspended",
            30,
        ),
        (
            "nobody",
            None,
            "192.0.2.1",
            "no rule of the policy allows this user",
            300,
        ),
    ] {
        let evaluation = evaluate(&policy, user, group, from);
        assert_eq!(outcome(&evaluation), expected, "{user} {group:?} {from}");
        assert_eq!(
            evaluation.ttl,
            Some(Duration::from_secs(ttl)),
            "{user} {group:?} {from}"
        );
    }
    let Verdict::Allow(grant) = evaluate(&policy, "bob", None, "192.0.2.1").verdict else {
        panic!("denied")
    };
    assert_eq!(*grant.routes, ["10.0.0.0/8", "2001:db8:1::/48"]);
    assert_eq!(*grant.dns_servers, ["10.0.0.53".parse::<IpAddr>().unwrap()]);
}

#[test]
fn an_empty_policy_denies_everyone_without_a_ttl() {
    let evaluation = evaluate(&policy(""), "alice", Some("staff"), "192.0.2.1");
    assert_eq!(outcome(&evaluation), "no rule of the policy allows this user");
    assert_eq!((evaluation.ttl, evaluation.rule), (None, None));
}

#[test]
fn default_allow_applies_when_no_rule_matches() {
    let policy = policy("default = \"allow\"\nrules = [{ verdict = \"deny\", users = [\"mallory\"] }]");
    assert_eq!(outcome(&evaluate(&policy, "alice", None, "192.0.2.1")), "allow");
    assert_eq!(
        outcome(&evaluate(&policy, "mallory", None, "192.0.2.1")),
        "denied by policy"
    );
}

#[test]
fn the_first_rule_that_matches_decides_and_is_named() {
    let policy = policy(
        r#"
        [[rules]]
        verdict = "deny"
        users = ["alice"]
        reason = "first"
        [[rules]]
        verdict = "allow"
        users = ["alice", "bob"]
        [[rules]]
        verdict = "deny"
        reason = "last"
        "#,
    );
    for (user, expected, rule) in [("alice", "first", 0), ("bob", "allow", 1), ("carol", "last", 2)] {
        let evaluation = evaluate(&policy, user, None, "192.0.2.1");
        assert_eq!(
            (outcome(&evaluation).as_str(), evaluation.rule),
            (expected, Some(rule)),
            "{user}"
        );
    }
}

#[test]
fn every_condition_of_a_rule_must_hold() {
    let policy = policy(
        r#"
        [[rules]]
        verdict = "allow"
        users = ["alice"]
        groups = ["staff"]
        networks = ["192.0.2.0/24"]
        "#,
    );
    for (user, group, from, allowed) in [
        ("alice", Some("staff"), "192.0.2.200", true),
        ("bob", Some("staff"), "192.0.2.200", false),
        ("alice", Some("guests"), "192.0.2.200", false),
        ("alice", None, "192.0.2.200", false),
        ("alice", Some("staff"), "192.0.3.1", false),
        ("Alice", Some("staff"), "192.0.2.200", false),
        ("alice", Some("Staff"), "192.0.2.200", false),
    ] {
        assert_eq!(
            evaluate(&policy, user, group, from).verdict.is_allow(),
            allowed,
            "{user} {group:?} {from}"
        );
    }
}

#[test]
fn an_address_matches_itself_alone() {
    let policy = policy("rules = [{ verdict = \"allow\", networks = [\"192.0.2.7\", \"2001:db8::7\"] }]");
    for (from, allowed) in [
        ("192.0.2.7", true),
        ("192.0.2.6", false),
        ("2001:db8::7", true),
        ("2001:db8::6", false),
    ] {
        assert_eq!(
            evaluate(&policy, "alice", None, from).verdict.is_allow(),
            allowed,
            "{from}"
        );
    }
}

#[test]
fn an_ipv4_mapped_client_is_matched_as_ipv4() {
    let policy = policy(
        "default = \"allow\"\nrules = [{ verdict = \"deny\", networks = [\"192.0.2.0/24\", \"::ffff:198.51.100.1\"] }]",
    );
    for from in [
        "192.0.2.9",
        "::ffff:192.0.2.9",
        "198.51.100.1",
        "::ffff:198.51.100.1",
    ] {
        assert!(
            !evaluate(&policy, "alice", None, from).verdict.is_allow(),
            "{from}"
        );
    }
}

#[test]
fn the_ttl_of_a_rule_overrides_that_of_the_file() {
    let policy = policy(
        r#"
        ttl = "5m"
        [[rules]]
        verdict = "allow"
        users = ["zero"]
        ttl = "0s"
        [[rules]]
        verdict = "allow"
        users = ["own"]
        ttl = "1h 30m"
        [[rules]]
        verdict = "allow"
        users = ["files"]
        "#,
    );
    for (user, seconds) in [("zero", 0), ("own", 5400), ("files", 300), ("unknown", 300)] {
        assert_eq!(
            evaluate(&policy, user, None, "::1").ttl,
            Some(Duration::from_secs(seconds)),
            "{user}"
        );
    }
}

#[test]
fn without_the_group_there_is_a_verdict_only_where_no_group_changes_it() {
    let policy = policy(
        r#"
        [[rules]]
        verdict = "deny"
        users = ["mallory"]
        [[rules]]
        verdict = "deny"
        groups = ["guests"]
        networks = ["203.0.113.0/24"]
        [[rules]]
        verdict = "allow"
        users = ["alice"]
        [[rules]]
        verdict = "allow"
        groups = ["staff"]
        "#,
    );
    for (user, from, expected) in [
        ("mallory", "192.0.2.1", Some(false)),
        ("alice", "192.0.2.1", Some(true)),
        ("alice", "203.0.113.1", None),
        ("alice", "::ffff:203.0.113.1", None),
        ("bob", "192.0.2.1", None),
    ] {
        let evaluation =
            policy.evaluate_without_group(&Username::parse(user).unwrap(), from.parse().unwrap());
        assert_eq!(
            evaluation.map(|evaluation| evaluation.verdict.is_allow()),
            expected,
            "{user} from {from}"
        );
    }
}

#[test]
fn the_fingerprint_is_the_same_for_the_same_text_in_every_release() {
    assert_eq!(
        Policy::parse("version = 1\n", "a").unwrap().fingerprint(),
        "1efd0ca3be03a023"
    );
    assert_ne!(
        policy("ttl = \"1s\"").fingerprint(),
        policy("ttl = \"2s\"").fingerprint()
    );
}
