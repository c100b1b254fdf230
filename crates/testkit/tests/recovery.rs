//! After whatever happened to the portal, the wire or the agent itself, decisions are right again without a restart.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::lab::{AgentOptions, Lab, Place, Question};
use testkit::portal_double::{PortalDouble, Reply};
use testkit::scene::{decisions, eager, footprint, lab, last_decision, transitions};
use testkit::wait::{self, BOUND};

fn double_in(lab: &Lab) -> PortalDouble {
    PortalDouble::in_lab(lab, &lab.pki().portal().unwrap()).unwrap()
}

#[test]
fn a_partition_is_an_outage_like_any_other_and_heals_without_a_restart() {
    let options = AgentOptions {
        portal_timeout: Duration::from_millis(800),
        ..eager(
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

    lab.partition(Place::Portal).unwrap();
    wait::until("a stale decision", BOUND, || {
        lab.server().connect("alice").unwrap();
        (last_decision(&lab, "alice")["source"] == "stale").then_some(())
    })
    .unwrap();
    assert!(lab.server().connect("bob").unwrap_err().is_by_script());
    assert_eq!(last_decision(&lab, "bob")["source"], "fail_close");

    lab.heal(Place::Portal).unwrap();
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
fn decisions_outlive_a_kill_of_the_agent_with_their_true_age_and_are_never_fresh_again() {
    let options = eager("");
    let lab = lab("kill-9").agent(options.clone()).start().unwrap();
    let began = Instant::now();
    lab.server().connect("alice").unwrap();
    lab.server().connect("mallory").unwrap_err();
    wait_until_stored(&lab, "alice");
    wait_until_stored(&lab, "mallory");
    // Decisions are stored in order: once this one is on its way to the disk, those before it are safe.
    Question::login("later").ask(&lab).unwrap();
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
            "with five minutes to live it would be fresh, had the agent not been killed: {decision}"
        );
        let age = decision["age_ms"].as_u64().unwrap();
        let most = u64::try_from(began.elapsed().as_millis()).unwrap();
        assert!(last_age < age && age <= most, "{last_age} < {age} <= {most}");
        last_age = age;
    }
    assert!(lab.server().connect("bob").unwrap_err().is_by_script());
    assert_eq!(last_decision(&lab, "bob")["source"], "fail_close");
    assert!(lab.server().connect("mallory").unwrap_err().is_by_script());
    assert_eq!(last_decision(&lab, "mallory")["source"], "stale");
}

/// Waits until the agent's files on the disk name a user.
fn wait_until_stored(lab: &Lab, user: &str) {
    wait::until(&format!("{user} on the disk"), BOUND, || {
        let files = fs::read_dir(lab.agent().state_dir()).ok()?;
        files
            .filter_map(|file| fs::read(file.ok()?.path()).ok())
            .any(|bytes| bytes.windows(user.len()).any(|part| part == user.as_bytes()))
            .then_some(())
    })
    .unwrap();
}

#[test]
fn an_allow_that_a_disconnect_of_the_user_overtook_lets_nobody_in() {
    let options = AgentOptions {
        portal_timeout: Duration::from_secs(5),
        ipc_deadline: Duration::from_secs(8),
        helper_deadline: Duration::from_secs(9),
        ..eager("")
    };
    let lab = Lab::builder("overtaken").agent(options).start().unwrap();
    let portal = double_in(&lab);
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    portal.delay(Duration::from_millis(2500));
    let question = Question::login("alice").put(&lab.agent().socket()).unwrap();
    // The portal has decided to allow, and takes its time to say so.
    portal.wait_for_checks(1, BOUND).unwrap();
    portal.delay(Duration::ZERO);
    portal.on_check(Reply::deny("revoked"));
    // She has no session, and the caller is told that.
    lab.portal_dev().call_agent(&["disconnect", "alice"]).unwrap_err();
    let answer = Question::answer(question).unwrap();
    assert_eq!(answer["allowed"], false, "{answer}");
    assert_eq!(answer["deny_code"], "policy", "{answer}");
    assert_eq!(portal.checks_of("alice").len(), 2, "the portal was asked again");
}

#[test]
fn five_hundred_equal_questions_at_once_are_one_question_to_the_portal() {
    let options = eager("ipc.max_connections = 600");
    let lab = Lab::builder("one-flight").agent(options).start().unwrap();
    let portal = double_in(&lab);
    lab.agent().wait_for_log("portal connected", BOUND).unwrap();
    portal.delay(Duration::from_secs(1));
    let socket = lab.agent().socket();
    let asked: Vec<_> = (0..500)
        .map(|_| Question::login("alice").put(&socket).unwrap())
        .collect();
    for stream in asked {
        let answer = Question::answer(stream).unwrap();
        assert_eq!(answer["allowed"], true, "{answer}");
    }
    assert_eq!(portal.checks().len(), 1);
}

#[test]
fn a_portal_that_comes_and_goes_never_makes_a_decision_wrong_nor_the_agent_grow() {
    const ALLOWED: [&str; 3] = ["alice", "bob", "carol"];
    let options = AgentOptions {
        portal_timeout: Duration::from_millis(400),
        ..eager(
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
        wait::until("a first decision", BOUND, || {
            script_allows(&lab, user).then_some(())
        })
        .unwrap();
    }
    wait::until("a first deny", BOUND, || {
        let answer = Question::login("mallory").ask(&lab).unwrap();
        assert_eq!(answer["allowed"], false, "{answer}");
        (answer["deny_code"] == "policy").then_some(())
    })
    .unwrap();

    // Once to warm up, so that what an agent needs once is there when it is measured.
    flap(&lab, &portal, &ALLOWED, 3);
    let before = footprint(&lab);
    flap(&lab, &portal, &ALLOWED, 9);
    wait::until("no more threads than before", BOUND, || {
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
            assert!(n > 0, "nobody unknown came");
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
    let steps = transitions(&lab);
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
    wait::until("the portal's own answer", BOUND, || {
        (Question::login("alice").ask(&lab).unwrap()["source"] == "portal").then_some(())
    })
    .unwrap();
    assert_eq!(transitions(&lab).last().unwrap(), "half-open > closed");
}

/// Lets the portal come and go while users log in, about twenty in a second. Says nothing when all goes as it must.
fn flap(lab: &Lab, portal: &PortalDouble, allowed: &[&str], times: u32) {
    static STRANGERS: AtomicUsize = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for lane in 0..2 {
            let over = &over;
            scope.spawn(move || {
                for turn in lane.. {
                    if over.load(Ordering::Relaxed) {
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
        over.store(true, Ordering::Relaxed);
    });
}

/// Whether ocserv's connect-script would let the user in. Her session is over at once.
fn script_allows(lab: &Lab, user: &str) -> bool {
    let question = Question::login(user);
    let output = question.run_script(lab).unwrap();
    match output.status.code() {
        Some(0) => {
            question.end().ask(lab).unwrap();
            true
        }
        Some(1) => false,
        _ => panic!("the helper had no answer for {user}: {output:?}"),
    }
}
