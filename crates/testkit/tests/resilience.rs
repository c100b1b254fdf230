//! In an outage of the portal, each fail mode allows and denies what it should.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use testkit::harness::{POLICY, breaker_transitions, decisions, fast_reconnect, lab, last_decision, reload};
use testkit::lab::{AgentOptions, ConnectOptions, IpcRequest, Lab, PortalOptions};
use testkit::portal_double::{PortalDouble, Reply};
use testkit::wait::{self, BOUND};
use tonic::Code;

/// Short TTLs and a breaker that opens after two failures.
fn sensitive(fail_mode: &str) -> AgentOptions {
    let extra = format!(
        r#"
        resilience.fail_mode = "{fail_mode}"
        resilience.cache = {{ ttl = "200ms", deny_ttl = "200ms" }}
        resilience.circuit_breaker = {{ failure_threshold = 2, timeout = "1s" }}
        "#
    );
    AgentOptions {
        portal_timeout: Duration::from_secs(1),
        ..fast_reconnect(&extra)
    }
}

fn double_in(lab: &Lab) -> PortalDouble {
    PortalDouble::in_lab(lab, &lab.pki().portal().unwrap()).unwrap()
}

fn log_in(lab: &Lab, user: &str) {
    lab.server().connect(user).unwrap().disconnect(BOUND).unwrap();
}

/// Logs in repeatedly, always with success, until the decision has this source.
fn log_in_until(lab: &Lab, user: &str, source: &str) {
    wait::until(&format!("decision about {user} from {source}"), BOUND, || {
        log_in(lab, user);
        (last_decision(lab, user)["source"] == source).then_some(())
    })
    .unwrap();
}

#[track_caller]
fn assert_denied(lab: &Lab, user: &str, source: &str, code: &str) {
    let rejected = lab.server().connect(user).unwrap_err();
    assert!(rejected.is_session_denied(), "{rejected}");
    let decision = last_decision(lab, user);
    assert_eq!(decision["outcome"], "deny", "{decision}");
    assert_eq!(decision["source"], source, "{decision}");
    assert_eq!(decision["deny_code"], code, "{decision}");
}

#[test]
fn each_fail_mode_applies_while_the_portal_is_down_and_not_after() {
    let lab = lab("fail-modes").agent(sensitive("stale")).start().unwrap();
    log_in(&lab, "alice");
    assert_eq!(last_decision(&lab, "alice")["source"], "portal");
    assert_denied(&lab, "mallory", "portal", "policy");
    lab.portal_dev().kill();

    log_in_until(&lab, "alice", "stale");
    assert_denied(&lab, "bob", "fail_close", "outage");
    assert_denied(&lab, "mallory", "stale", "policy");

    reload(&lab, &sensitive("open"));
    log_in_until(&lab, "alice", "stale");
    log_in_until(&lab, "bob", "fail_open");
    assert_denied(&lab, "mallory", "stale", "policy");

    reload(&lab, &sensitive("fail-close"));
    assert_denied(&lab, "alice", "fail_close", "outage");
    assert_denied(&lab, "bob", "fail_close", "outage");
    assert_denied(&lab, "mallory", "fail_close", "outage");

    let options = PortalOptions {
        policy: POLICY.to_owned(),
        ..PortalOptions::default()
    };
    lab.portal_dev().start(&options).unwrap();
    wait::until("a login after the portal came back", BOUND, || {
        lab.server().connect("bob").ok()
    })
    .unwrap();
    assert_eq!(last_decision(&lab, "bob")["source"], "portal");
    assert_denied(&lab, "mallory", "portal", "policy");
    let transitions = breaker_transitions(&lab);
    assert_eq!(transitions.first().unwrap(), "closed > open", "{transitions:?}");
    assert_eq!(
        transitions.last().unwrap(),
        "half-open > closed",
        "{transitions:?}"
    );
}

#[test]
fn a_portal_that_hangs_gets_one_probe_at_a_time_until_one_succeeds() {
    let options = AgentOptions {
        portal_timeout: Duration::from_millis(500),
        ..fast_reconnect("resilience.circuit_breaker = { failure_threshold = 3, timeout = \"1s\" }")
    };
    let lab = Lab::builder("one-probe").agent(options).start().unwrap();
    let portal = double_in(&lab);
    portal.on_check(Reply::code(Code::Unavailable));
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    for n in 0..3 {
        let response = IpcRequest::login(&format!("first{n}")).call(&lab).unwrap();
        assert_eq!(response["allowed"], false, "{response}");
    }
    assert_eq!(breaker_transitions(&lab), ["closed > open"]);
    assert_eq!(portal.checks().len(), 3);

    portal.clear_received();
    portal.on_check(Reply::Hang);
    let half_open = || {
        let all = breaker_transitions(&lab);
        all.iter().filter(|step| *step == "open > half-open").count()
    };
    wait::until("third half-open", BOUND, || {
        deny_concurrently(&lab, 12);
        (half_open() >= 3).then_some(())
    })
    .unwrap();
    wait::until("one probe for each half-open", BOUND, || {
        (portal.checks().len() == half_open()).then_some(())
    })
    .unwrap();

    portal.on_check(Reply::allow());
    wait::until("decision of the portal", BOUND, || {
        let response = IpcRequest::login("last").call(&lab).unwrap();
        (response["source"] == "portal" && response["allowed"] == true).then_some(())
    })
    .unwrap();
    assert_eq!(breaker_transitions(&lab).last().unwrap(), "half-open > closed");
}

/// Logs this many users in concurrently; all are denied.
fn deny_concurrently(lab: &Lab, size: usize) {
    thread::scope(|scope| {
        for n in 0..size {
            scope.spawn(move || {
                let response = IpcRequest::login(&format!("concurrent{n}")).call(lab).unwrap();
                assert_eq!(response["allowed"], false, "{response}");
            });
        }
    });
}

#[test]
fn a_user_denied_by_a_new_policy_is_denied_once_the_ttl_of_the_old_decision_is_over() {
    let policy = |rules: &str| format!("version = 1\ndefault = \"allow\"\nttl = \"1s\"\n{rules}");
    // The agent's default TTL of five minutes would outlast the test: the portal's second applies.
    let lab = Lab::builder("new-policy")
        .users(&["alice"])
        .portal_dev(&policy(""))
        .agent(fast_reconnect(""))
        .start()
        .unwrap();
    log_in(&lab, "alice");
    lab.portal_dev()
        .set_policy(&policy(
            "[[rules]]\nverdict = \"deny\"\nusers = [\"alice\"]\nreason = \"left\"",
        ))
        .unwrap();
    wait::until("a deny", BOUND, || lab.server().connect("alice").err()).unwrap();
    assert_eq!(last_decision(&lab, "alice")["deny_code"], "policy");
    let sources: BTreeSet<String> = decisions(&lab, "alice")
        .iter()
        .map(|line| line["source"].as_str().unwrap_or("?").to_owned())
        .collect();
    for source in &sources {
        assert!(
            ["portal", "cache"].contains(&source.as_str()),
            "nothing is stale while the portal is up: {sources:?}"
        );
    }
}

#[test]
fn a_fresh_decision_needs_no_policy_check_and_one_without_a_ttl_always_does() {
    let lab = Lab::builder("fresh")
        .users(&["alice"])
        .agent(fast_reconnect(""))
        .start()
        .unwrap();
    let portal = double_in(&lab);
    portal.on_check_of("zero", Reply::allow_for(Duration::ZERO));
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    for _ in 0..3 {
        log_in(&lab, "alice");
        IpcRequest::login("zero").call(&lab).unwrap();
    }
    assert_eq!(portal.checks_of("alice").len(), 1);
    assert_eq!(portal.checks_of("zero").len(), 3);
    let sources: Vec<Value> = decisions(&lab, "alice")
        .iter()
        .map(|line| line["source"].clone())
        .collect();
    assert_eq!(sources, ["portal", "cache", "cache"]);
}

#[test]
fn a_portal_that_hangs_is_called_until_the_breaker_opens_and_then_not_at_all() {
    let options = |mode: &str| AgentOptions {
        portal_timeout: Duration::from_millis(300),
        ..fast_reconnect(&format!(
            r#"
            resilience.fail_mode = "{mode}"
            resilience.cache = {{ ttl = "100ms", deny_ttl = "100ms" }}
            resilience.circuit_breaker = {{ failure_threshold = 3, timeout = "1h" }}
            "#
        ))
    };
    let lab = Lab::builder("hangs")
        .users(&["alice", "bob"])
        .agent(options("stale"))
        .start()
        .unwrap();
    let portal = double_in(&lab);
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    wait::until("alice's first login", BOUND, || {
        lab.server().connect("alice").ok()
    })
    .unwrap();

    portal.on_check(Reply::Hang);
    log_in_until(&lab, "alice", "stale");
    assert_denied(&lab, "bob", "fail_close", "outage");
    wait::until("an open breaker", BOUND, || {
        IpcRequest::login("someone").call(&lab).unwrap();
        (breaker_transitions(&lab) == ["closed > open"]).then_some(())
    })
    .unwrap();

    let checks = portal.checks().len();
    for _ in 0..30 {
        let alice = IpcRequest::login("alice").call(&lab).unwrap();
        assert_eq!(
            (&alice["allowed"], &alice["source"]),
            (&true.into(), &"stale".into())
        );
        let bob = IpcRequest::login("bob").call(&lab).unwrap();
        assert_eq!(
            (&bob["allowed"], &bob["source"]),
            (&false.into(), &"fail_close".into())
        );
    }
    log_in(&lab, "alice");
    assert_denied(&lab, "bob", "fail_close", "outage");
    reload(&lab, &options("close"));
    assert_denied(&lab, "alice", "fail_close", "outage");
    assert_eq!(
        portal.checks().len(),
        checks,
        "the portal was called while the breaker was open"
    );

    let helper = lab.server().process().unwrap().logs();
    assert!(!helper.contains("exit=2"), "{helper}");
    for user in ["alice", "bob", "someone"] {
        for decision in decisions(&lab, user) {
            assert_ne!(decision["source"], "agent", "the decision was late: {decision}");
        }
    }
}

fn from_other_network() -> ConnectOptions {
    ConnectOptions {
        network: 1,
        ..ConnectOptions::default()
    }
}

#[test]
fn a_roaming_user_is_allowed_in_an_outage_only_where_stale_match_is_user() {
    let options = |matched: &str| {
        fast_reconnect(&format!(
            "resilience.stale_match = \"{matched}\"\nresilience.cache.ttl = \"100ms\""
        ))
    };
    let lab = lab("roaming")
        .agent(options("exact"))
        .client_networks(2)
        .start()
        .unwrap();
    let other_network = from_other_network();
    log_in(&lab, "alice");
    lab.portal_dev().kill();
    log_in_until(&lab, "alice", "stale");
    let rejected = lab.server().connect_with("alice", &other_network).unwrap_err();
    assert!(rejected.is_session_denied(), "{rejected}");
    assert_eq!(last_decision(&lab, "alice")["deny_code"], "outage");

    reload(&lab, &options("user"));
    lab.server().connect_with("alice", &other_network).unwrap();
    let decision = last_decision(&lab, "alice");
    assert_eq!(decision["source"], "stale", "{decision}");
    assert_eq!(decision["client_ip"], "10.77.1.2", "{decision}");
    let rejected = lab.server().connect_with("bob", &other_network).unwrap_err();
    assert!(rejected.is_session_denied(), "{rejected}");
}

#[test]
fn a_denied_user_is_denied_in_an_outage_from_another_address_and_over_a_restart_of_the_agent() {
    let lab = lab("denied-roaming")
        .agent(sensitive("open"))
        .client_networks(2)
        .start()
        .unwrap();
    let other_network = from_other_network();
    assert_denied(&lab, "mallory", "portal", "policy");
    lab.portal_dev().kill();
    log_in_until(&lab, "bob", "fail_open");

    let denied_elsewhere = || {
        let rejected = lab.server().connect_with("mallory", &other_network).unwrap_err();
        assert!(rejected.is_session_denied(), "{rejected}");
        let decision = last_decision(&lab, "mallory");
        assert_eq!(decision["client_ip"], "10.77.1.2", "{decision}");
        (decision["source"].clone(), decision["deny_code"].clone())
    };
    assert_eq!(denied_elsewhere(), ("stale".into(), "policy".into()));
    lab.agent().stop().unwrap();
    lab.agent().start(&sensitive("open")).unwrap();
    assert_eq!(denied_elsewhere(), ("stale".into(), "policy".into()));
}
