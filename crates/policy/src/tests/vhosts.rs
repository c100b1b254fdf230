//! Conditions on the virtual host.

use ocserv_agent_model::{GroupName, Username, VhostName};

use super::{error, policy};
use crate::Policy;

const RULES: &str = r#"
[[rules]]
verdict = "deny"
users = ["mallory"]
[[rules]]
verdict = "allow"
users = ["alice"]
vhosts = ["staff.example.com", "default"]
[[rules]]
verdict = "allow"
groups = ["guests"]
vhosts = ["guests.example.com"]
"#;

fn user(name: &str) -> Username {
    Username::parse(name).unwrap()
}

fn allows(policy: &Policy, name: &str, group: &str, vhost: &str) -> bool {
    let evaluation = policy.evaluate(
        &user(name),
        Some(&GroupName::parse(group).unwrap()),
        &VhostName::parse(vhost).unwrap(),
        [192, 0, 2, 1].into(),
    );
    evaluation.verdict.is_allow()
}

#[test]
fn a_rule_matches_on_the_virtual_hosts_that_it_names_and_on_no_other() {
    let policy = policy(RULES);
    for (name, group, vhost, allowed) in [
        ("alice", "x", "staff.example.com", true),
        ("alice", "x", "default", true),
        ("alice", "x", "guests.example.com", false),
        ("alice", "x", "Staff.example.com", false),
        ("bob", "guests", "guests.example.com", true),
        ("bob", "guests", "default", false),
        ("bob", "x", "guests.example.com", false),
        ("mallory", "guests", "guests.example.com", false),
    ] {
        assert_eq!(
            allows(&policy, name, group, vhost),
            allowed,
            "{name} {group} {vhost}"
        );
    }
}

#[test]
fn a_rule_for_a_virtual_host_does_not_match_every_login() {
    let policy =
        policy("[[rules]]\nverdict = \"allow\"\nvhosts = [\"default\"]\n[[rules]]\nverdict = \"deny\"\n");
    assert!(allows(&policy, "alice", "x", "default"));
    assert!(!allows(&policy, "alice", "x", "other.example.com"));
}

#[test]
fn without_the_virtual_host_there_is_a_verdict_only_where_none_changes_it() {
    let policy = policy(RULES);
    for (name, group, expected) in [
        ("mallory", "guests", Some(false)),
        ("alice", "x", None),
        ("bob", "guests", None),
        ("bob", "x", Some(false)),
    ] {
        let group = GroupName::parse(group).unwrap();
        let evaluation = policy.evaluate_without_vhost(&user(name), Some(&group), [192, 0, 2, 1].into());
        assert_eq!(
            evaluation.map(|evaluation| evaluation.verdict.is_allow()),
            expected,
            "{name}"
        );
    }
}

#[test]
fn without_group_and_virtual_host_there_is_a_verdict_only_where_neither_changes_it() {
    let policy = policy(RULES);
    for (name, expected) in [("mallory", Some(false)), ("alice", None), ("bob", None)] {
        let evaluation = policy.evaluate_without_group(&user(name), [192, 0, 2, 1].into());
        assert_eq!(
            evaluation.map(|evaluation| evaluation.verdict.is_allow()),
            expected,
            "{name}"
        );
    }
}

#[test]
fn an_empty_list_and_an_invalid_name_are_errors() {
    for (list, expected) in [
        (
            "[]",
            "policy.toml:4: rules[0].vhosts: is an empty list: leave the key out to match everyone",
        ),
        ("[\"a/b\"]", "policy.toml:4: rules[0].vhosts[0]: \"a/b\" "),
    ] {
        let found = error(&format!("[[rules]]\nverdict = \"deny\"\nvhosts = {list}"));
        assert!(found.starts_with(expected), "{found}");
    }
}
