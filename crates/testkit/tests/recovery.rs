//! After a failure of the portal, the network or the agent, decisions are right again without a
//! restart.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::harness::{breaker_transitions, decisions, fast_reconnect, footprint, lab, last_decision};
use testkit::lab::{AgentOptions, IpcRequest, Lab, Node};
use testkit::portal_double::{PortalDouble, Reply};
use testkit::wait::{self, BOUND};

fn double_in(lab: &Lab) -> PortalDouble {
    PortalDouble::in_lab(lab, &lab.pki().portal().unwrap()).unwrap()
}

#[test]
fn a_partition_is_an_outage_like_any_other_and_heals_without_a_restart() {
    let options = AgentOptions {
        portal_timeout: Duration::from_millis(800),
        ..fast_reconnect(
            r#"
            portal.keepalive_interval = "200ms"
            portal.keepalive_timeout = "300ms"
            resilience.cache = { ttl = "100ms", deny_ttl = "100ms" }
            resilience.circuit_breaker = { failure_threshold = 2, timeout = "800ms" }
            "#,
        )
    };
    let lab = lab("partition").agent(options).start().unwrap();
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    wait::until("alice's first login", BOUND, || {
        lab.server().connect("alice").ok()
    })
    .unwrap();
    let pid = lab.agent().process().unwrap().pid();

    lab.partition(Node::Portal).unwrap();
    wait::until("a stale decision", BOUND, || {
        lab.server().connect("alice").unwrap();
        (last_decision(&lab, "alice")["source"] == "stale").then_some(())
    })
    .unwrap();
    assert!(lab.server().connect("bob").unwrap_err().is_session_denied());
    assert_eq!(last_decision(&lab, "bob")["source"], "fail_close");

    lab.heal(Node::Portal).unwrap();
    wait::until("a login of a new user", BOUND, || {
        lab.server().connect("bob").ok()
    })
    .unwrap();
    assert_eq!(last_decision(&lab, "bob")["source"], "portal");
    assert_eq!(lab.agent().process().unwrap().pid(), pid);
    assert!(lab.agent().process().unwrap().exit().is_none());
    let helper = lab.server().process().unwrap().logs();
    assert!(!helper.contains("exit=2"), "{helper}");
}

#[test]
fn decisions_survive_a_kill_of_the_agent_with_their_true_age_and_are_never_fresh_again() {
    let options = fast_reconnect("");
    let lab = lab("kill-9").agent(options.clone()).start().unwrap();
    let first_login = Instant::now();
    lab.server().connect("alice").unwrap();
    lab.server().connect("mallory").unwrap_err();
    wait_until_stored(&lab, "alice");
    wait_until_stored(&lab, "mallory");
    // Decisions are stored in order: once this one is in a file, those before it are complete.
    IpcRequest::login("later").call(&lab).unwrap();
    wait_until_stored(&lab, "later");
    lab.portal_dev().kill();

    let mut last_age = 0;
    for _ in 0..2 {
        lab.agent().kill();
        lab.agent().start(&options).unwrap();
        lab.server().connect("alice").unwrap();
        let decision = last_decision(&lab, "alice");
        assert_eq!(
            decision["source"], "stale",
            "without the kill, it would be fresh for five minutes: {decision}"
        );
        let age = decision["age_ms"].as_u64().unwrap();
        let most = u64::try_from(first_login.elapsed().as_millis()).unwrap();
        assert!(last_age < age && age <= most, "{last_age} < {age} <= {most}");
        last_age = age;
    }
    assert!(lab.server().connect("bob").unwrap_err().is_session_denied());
    assert_eq!(last_decision(&lab, "bob")["source"], "fail_close");
    assert!(lab.server().connect("mallory").unwrap_err().is_session_denied());
    assert_eq!(last_decision(&lab, "mallory")["source"], "stale");
}

/// Waits until the agent's state files contain a user.
fn wait_until_stored(lab: &Lab, user: &str) {
    wait::until(&format!("{user} in the state files"), BOUND, || {
        let files = fs::read_dir(lab.agent().state_dir()).ok()?;
        files
            .filter_map(|file| fs::read(file.ok()?.path()).ok())
            .any(|bytes| bytes.windows(user.len()).any(|part| part == user.as_bytes()))
            .then_some(())
    })
    .unwrap();
}

#[test]
fn an_allow_from_before_a_disconnect_of_the_user_does_not_count() {
    let options = AgentOptions {
        portal_timeout: Duration::from_secs(5),
        ipc_deadline: Duration::from_secs(8),
        helper_deadline: Duration::from_secs(9),
        ..fast_reconnect("")
    };
    let lab = Lab::builder("superseded").agent(options).start().unwrap();
    let portal = double_in(&lab);
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    portal.delay(Duration::from_millis(2500));
    let stream = IpcRequest::login("alice").send(&lab.agent().socket()).unwrap();
    // The portal has decided to allow and delays its reply.
    portal.wait_for_checks(1, BOUND).unwrap();
    portal.delay(Duration::ZERO);
    portal.on_check(Reply::deny("revoked"));
    // There is no session, and the caller gets an error.
    lab.portal_dev().call_agent(&["disconnect", "alice"]).unwrap_err();
    let response = IpcRequest::read_response(stream).unwrap();
    assert_eq!(response["allowed"], false, "{response}");
    assert_eq!(response["deny_code"], "policy", "{response}");
    assert_eq!(portal.checks_of("alice").len(), 2, "the portal was called again");
}

#[test]
fn five_hundred_equal_concurrent_logins_are_one_policy_check() {
    let options = fast_reconnect("ipc.max_connections = 600");
    let lab = Lab::builder("single-flight").agent(options).start().unwrap();
    let portal = double_in(&lab);
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    portal.delay(Duration::from_secs(1));
    let socket = lab.agent().socket();
    let streams: Vec<_> = (0..500)
        .map(|_| IpcRequest::login("alice").send(&socket).unwrap())
        .collect();
    for stream in streams {
        let response = IpcRequest::read_response(stream).unwrap();
        assert_eq!(response["allowed"], true, "{response}");
    }
    assert_eq!(portal.checks().len(), 1);
}

#[test]
fn a_flapping_portal_causes_no_wrong_decision_and_no_growth_of_the_agent() {
    const ALLOWED: [&str; 3] = ["alice", "bob", "carol"];
    let options = AgentOptions {
        portal_timeout: Duration::from_millis(400),
        ..fast_reconnect(
            r#"
            resilience.cache = { ttl = "200ms", deny_ttl = "200ms" }
            resilience.circuit_breaker = { failure_threshold = 3, timeout = "400ms" }
            "#,
        )
    };
    let lab = Lab::builder("flapping")
        .agent(options)
        .deployed_script()
        .start()
        .unwrap();
    let portal = double_in(&lab);
    portal.on_check_of("mallory", Reply::deny("never"));
    for user in ALLOWED {
        wait::until("first decision", BOUND, || {
            script_allows(&lab, user).then_some(())
        })
        .unwrap();
    }
    wait::until("first deny", BOUND, || {
        let response = IpcRequest::login("mallory").call(&lab).unwrap();
        assert_eq!(response["allowed"], false, "{response}");
        (response["deny_code"] == "policy").then_some(())
    })
    .unwrap();

    // First a warm-up, so that one-time allocations are not measured.
    flap(&lab, &portal, &ALLOWED, 3);
    let before = footprint(&lab);
    flap(&lab, &portal, &ALLOWED, 9);
    wait::until("as few threads as before", BOUND, || {
        (footprint(&lab).threads <= before.threads).then_some(())
    })
    .unwrap();
    let after = footprint(&lab);
    assert!(
        after.rss_kib < before.rss_kib + 10 * 1024,
        "{before:?} became {after:?}"
    );

    for n in 0.. {
        let strangers = decisions(&lab, &format!("stranger{n}"));
        if strangers.is_empty() {
            assert!(n > 0, "no unknown user logged in");
            break;
        }
        for decision in strangers {
            let expected = if decision["source"] == "portal" {
                "allow"
            } else {
                "deny"
            };
            assert_eq!(decision["outcome"], expected, "{decision}");
        }
    }
    let steps = breaker_transitions(&lab);
    assert!(steps.iter().any(|step| step == "closed > open"), "{steps:?}");
    let mut state = "closed";
    for step in &steps {
        let (from, to) = step.split_once(" > ").unwrap();
        assert_eq!(from, state, "{steps:?}");
        assert!(
            [
                ("closed", "open"),
                ("open", "half-open"),
                ("half-open", "open"),
                ("half-open", "closed")
            ]
            .contains(&(from, to)),
            "{steps:?}"
        );
        state = to;
    }
    wait::until("decision of the portal", BOUND, || {
        (IpcRequest::login("alice").call(&lab).unwrap()["source"] == "portal").then_some(())
    })
    .unwrap();
    assert_eq!(breaker_transitions(&lab).last().unwrap(), "half-open > closed");
}

/// Stops and resumes the portal while users log in, about twenty a second, and checks their
/// verdicts.
fn flap(lab: &Lab, portal: &PortalDouble, allowed: &[&str], times: u32) {
    static STRANGERS: AtomicUsize = AtomicUsize::new(0);
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..2 {
            let stopped = &stopped;
            scope.spawn(move || {
                for turn in worker.. {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    match turn % 3 {
                        0 => {
                            let user = allowed.get(turn / 3 % allowed.len()).copied().unwrap();
                            assert!(script_allows(lab, user), "{user}: {}", last_decision(lab, user));
                        }
                        1 => assert!(
                            !script_allows(lab, "mallory"),
                            "{}",
                            last_decision(lab, "mallory")
                        ),
                        _ => {
                            let n = STRANGERS.fetch_add(1, Ordering::Relaxed);
                            script_allows(lab, &format!("stranger{n}"));
                        }
                    }
                    thread::sleep(Duration::from_millis(80));
                }
            });
        }
        for _ in 0..times {
            portal.stop();
            thread::sleep(Duration::from_millis(500));
            portal.resume().unwrap();
            thread::sleep(Duration::from_millis(500));
        }
        stopped.store(true, Ordering::Relaxed);
    });
}

/// Whether the connect-script allows a login of the user; ends the session at once.
fn script_allows(lab: &Lab, user: &str) -> bool {
    let request = IpcRequest::login(user);
    let output = request.run_script(lab).unwrap();
    match output.status.code() {
        Some(0) => {
            request.into_disconnect().call(lab).unwrap();
            true
        }
        Some(1) => false,
        _ => panic!("the helper got no response for {user}: {output:?}"),
    }
}
