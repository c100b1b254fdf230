//! An outage of the portal neither locks out who was let in before, nor lets in who was not to be.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use testkit::lab::{AgentOptions, ConnectOptions, Lab, PortalOptions, Question};
use testkit::portal_double::{PortalDouble, Reply};
use testkit::scene::{POLICY, decisions, eager, lab, last_decision, reload, transitions};
use testkit::wait::{self, BOUND};
use tonic::Code;

/// Short lives for decisions and a nervous breaker.
fn nervous(fail_mode: &str) -> AgentOptions {
    let extra = format!(
        r#"
        resilience.fail_mode = "{fail_mode}"
        resilience.cache = {{ ttl = "200ms", deny_ttl = "200ms" }}
        resilience.circuit_breaker = {{ failure_threshold = 2, timeout = "1s" }}
        "#
    );
    AgentOptions {
        portal_timeout: Duration::from_secs(1),
        ..eager(&extra)
    }
}

fn double_in(lab: &Lab) -> PortalDouble {
    PortalDouble::in_lab(lab, &lab.pki().portal().unwrap()).unwrap()
}

fn log_in(lab: &Lab, user: &str) {
    lab.server().connect(user).unwrap().disconnect(BOUND).unwrap();
}

/// Logs in again and again, always with success, until the decision comes from `source`.
fn log_in_until(lab: &Lab, user: &str, source: &str) {
    wait::until(&format!("a decision of {user}: {source}"), BOUND, || {
        log_in(lab, user);
        (last_decision(lab, user)["source"] == source).then_some(())
    })
    .unwrap();
}

#[track_caller]
fn keeps_out(lab: &Lab, user: &str, source: &str, code: &str) {
    let rejected = lab.server().connect(user).unwrap_err();
    assert!(rejected.is_by_script(), "{rejected}");
    let decision = last_decision(lab, user);
    assert_eq!(decision["outcome"], "deny", "{decision}");
    assert_eq!(decision["source"], source, "{decision}");
    assert_eq!(decision["deny_code"], code, "{decision}");
}

#[test]
fn each_fail_mode_does_what_it_says_while_the_portal_is_gone_and_nothing_once_it_is_back() {
    let lab = lab("fail-modes").agent(nervous("stale")).start().unwrap();
    log_in(&lab, "alice");
    assert_eq!(last_decision(&lab, "alice")["source"], "portal");
    keeps_out(&lab, "mallory", "portal", "policy");
    lab.portal_dev().kill();

    log_in_until(&lab, "alice", "stale");
    keeps_out(&lab, "bob", "fail_close", "outage");
    keeps_out(&lab, "mallory", "stale", "policy");

    reload(&lab, &nervous("open"));
    log_in_until(&lab, "alice", "stale");
    log_in_until(&lab, "bob", "fail_open");
    keeps_out(&lab, "mallory", "stale", "policy");

    reload(&lab, &nervous("fail-close"));
    keeps_out(&lab, "alice", "fail_close", "outage");
    keeps_out(&lab, "bob", "fail_close", "outage");
    keeps_out(&lab, "mallory", "fail_close", "outage");

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
    keeps_out(&lab, "mallory", "portal", "policy");
    let transitions = transitions(&lab);
    assert_eq!(transitions.first().unwrap(), "closed > open", "{transitions:?}");
    assert_eq!(
        transitions.last().unwrap(),
        "half-open > closed",
        "{transitions:?}"
    );
}

#[test]
fn a_portal_that_does_not_answer_gets_one_probe_at_a_time_until_one_succeeds() {
    let options = AgentOptions {
        portal_timeout: Duration::from_millis(500),
        ..eager("resilience.circuit_breaker = { failure_threshold = 3, timeout = \"1s\" }")
    };
    let lab = Lab::builder("one-probe").agent(options).start().unwrap();
    let portal = double_in(&lab);
    portal.on_check(Reply::code(Code::Unavailable));
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    for n in 0..3 {
        let answer = Question::login(&format!("first{n}")).ask(&lab).unwrap();
        assert_eq!(answer["allowed"], false, "{answer}");
    }
    assert_eq!(transitions(&lab), ["closed > open"]);
    assert_eq!(portal.checks().len(), 3);

    portal.forget();
    portal.on_check(Reply::Hang);
    let half_open = || {
        let all = transitions(&lab);
        all.iter().filter(|step| *step == "open > half-open").count()
    };
    wait::until("three times half-open", BOUND, || {
        crowd(&lab, 12);
        (half_open() >= 3).then_some(())
    })
    .unwrap();
    wait::until(
        "as many probes as times that the breaker was half-open",
        BOUND,
        || (portal.checks().len() == half_open()).then_some(()),
    )
    .unwrap();

    portal.on_check(Reply::allow());
    wait::until("an answer of the portal", BOUND, || {
        let answer = Question::login("last").ask(&lab).unwrap();
        (answer["source"] == "portal" && answer["allowed"] == true).then_some(())
    })
    .unwrap();
    assert_eq!(transitions(&lab).last().unwrap(), "half-open > closed");
}

/// Logins of so many users at the same time; nobody gets in.
fn crowd(lab: &Lab, size: usize) {
    thread::scope(|scope| {
        for n in 0..size {
            scope.spawn(move || {
                let answer = Question::login(&format!("crowd{n}")).ask(lab).unwrap();
                assert_eq!(answer["allowed"], false, "{answer}");
            });
        }
    });
}

#[test]
fn a_user_whom_the_portal_no_longer_wants_stays_out_once_the_time_of_the_old_answer_is_over() {
    let policy = |rules: &str| format!("version = 1\ndefault = \"allow\"\nttl = \"1s\"\n{rules}");
    // The agent's own five minutes would outlast the test: it is the portal's second that counts.
    let lab = Lab::builder("changed-mind")
        .users(&["alice"])
        .portal_dev(&policy(""))
        .agent(eager(""))
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
            "nothing stale while the portal answers: {sources:?}"
        );
    }
}

#[test]
fn a_fresh_decision_is_no_question_to_the_portal_and_one_that_must_not_be_kept_always_is() {
    let lab = Lab::builder("fresh")
        .users(&["alice"])
        .agent(eager(""))
        .start()
        .unwrap();
    let portal = double_in(&lab);
    portal.on_check_of("zero", Reply::allow_for(Duration::ZERO));
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    for _ in 0..3 {
        log_in(&lab, "alice");
        Question::login("zero").ask(&lab).unwrap();
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
fn a_portal_that_hangs_is_waited_for_until_the_breaker_opens_and_then_not_asked_at_all() {
    let options = |mode: &str| AgentOptions {
        portal_timeout: Duration::from_millis(300),
        ..eager(&format!(
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
    keeps_out(&lab, "bob", "fail_close", "outage");
    wait::until("an open breaker", BOUND, || {
        Question::login("someone").ask(&lab).unwrap();
        (transitions(&lab) == ["closed > open"]).then_some(())
    })
    .unwrap();

    let asked = portal.checks().len();
    for _ in 0..30 {
        let alice = Question::login("alice").ask(&lab).unwrap();
        assert_eq!(
            (&alice["allowed"], &alice["source"]),
            (&true.into(), &"stale".into())
        );
        let bob = Question::login("bob").ask(&lab).unwrap();
        assert_eq!(
            (&bob["allowed"], &bob["source"]),
            (&false.into(), &"fail_close".into())
        );
    }
    log_in(&lab, "alice");
    keeps_out(&lab, "bob", "fail_close", "outage");
    reload(&lab, &options("close"));
    keeps_out(&lab, "alice", "fail_close", "outage");
    assert_eq!(
        portal.checks().len(),
        asked,
        "the portal was asked while the breaker was open"
    );

    let helper = lab.server().process().unwrap().logs();
    assert!(!helper.contains("exit=2"), "{helper}");
    for user in ["alice", "bob", "someone"] {
        for decision in decisions(&lab, user) {
            assert_ne!(decision["source"], "agent", "the pipeline was late: {decision}");
        }
    }
}

#[test]
fn a_user_who_roams_gets_in_during_an_outage_only_where_the_operator_says_so() {
    let options = |matched: &str| {
        eager(&format!(
            "resilience.stale_match = \"{matched}\"\nresilience.cache.ttl = \"100ms\""
        ))
    };
    let lab = lab("roaming")
        .agent(options("exact"))
        .client_networks(2)
        .start()
        .unwrap();
    let elsewhere = ConnectOptions {
        network: 1,
        ..ConnectOptions::default()
    };
    log_in(&lab, "alice");
    lab.portal_dev().kill();
    log_in_until(&lab, "alice", "stale");
    let rejected = lab.server().connect_with("alice", &elsewhere).unwrap_err();
    assert!(rejected.is_by_script(), "{rejected}");
    assert_eq!(last_decision(&lab, "alice")["deny_code"], "outage");

    reload(&lab, &options("user"));
    lab.server().connect_with("alice", &elsewhere).unwrap();
    let decision = last_decision(&lab, "alice");
    assert_eq!(decision["source"], "stale", "{decision}");
    assert_eq!(decision["client_ip"], "10.77.1.2", "{decision}");
    let rejected = lab.server().connect_with("bob", &elsewhere).unwrap_err();
    assert!(rejected.is_by_script(), "{rejected}");
}
