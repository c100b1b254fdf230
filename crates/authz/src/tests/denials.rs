//! Tests of denied users: what the client chooses of a login turns no deny into an allow.

use ocserv_agent_model::{GroupName, VhostName};

use resilience::{Changes, Records};

use super::*;

/// Returns logins of `name` that differ in what the client chooses.
fn variants(name: &str) -> [Login; 4] {
    let other = login(name, 2);
    [
        other.clone(),
        Login {
            group: GroupName::parse("staff").ok(),
            ..login(name, 1)
        },
        Login {
            vhost: VhostName::parse("b").ok(),
            ..login(name, 1)
        },
        Login {
            client_ip: "2001:db8::1".parse().unwrap(),
            group: GroupName::parse("staff").ok(),
            vhost: VhostName::parse("b").ok(),
            ..other
        },
    ]
}

#[tokio::test(start_paused = true)]
async fn a_denied_user_is_denied_in_an_outage_whatever_the_client_chooses() {
    for fail_mode in FailMode::ALL {
        for stale_match in [StaleMatch::Exact, StaleMatch::User] {
            for ttl in [None, Some(Duration::ZERO)] {
                let rig = Rig::new(in_mode(fail_mode, stale_match));
                rig.set_source(SourceBehaviour::Answers {
                    verdict: deny(),
                    ttl,
                    after: Duration::ZERO,
                });
                rig.decide(&login("alice", 1)).await;
                rig.set_source(SourceBehaviour::Unreachable);
                sleep(7 * 86_400 * SECOND).await;
                for login in variants("alice") {
                    let decision = rig.decide(&login).await;
                    assert!(
                        !decision.verdict.is_allow(),
                        "{fail_mode} {stale_match:?}: {login:?}"
                    );
                    if fail_mode != FailMode::Close {
                        assert_eq!((decision.verdict, decision.source), (deny(), Source::Stale));
                    }
                }
                assert_eq!(
                    rig.decide(&login("bob", 1)).await.verdict.is_allow(),
                    fail_mode == FailMode::Open,
                    "nothing is known of another user"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_allow_by_the_portal_ends_a_deny_for_its_group_and_vhost() {
    let rig = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    rig.set_source(answers(deny()));
    rig.decide(&login("alice", 1)).await;
    rig.set_source(answers(allow()));
    let [other_address, other_group, ..] = variants("alice");
    rig.decide(&other_group).await;
    rig.set_source(SourceBehaviour::Unreachable);
    sleep(7 * 86_400 * SECOND).await;
    assert_eq!(rig.outcome(&other_address).await, (false, Source::Stale));
    let elsewhere = Login {
        client_ip: login("a", 9).client_ip,
        ..other_group
    };
    assert_eq!(rig.outcome(&elsewhere).await, (true, Source::FailOpen));
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_an_outage_allows_no_denied_user() {
    let before = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    before.set_source(SourceBehaviour::Answers {
        verdict: deny(),
        ttl: Some(Duration::ZERO),
        after: Duration::ZERO,
    });
    before.decide(&login("alice", 1)).await;
    let Changes::Partial { put, .. } = before.authorizer.take_changes() else {
        panic!()
    };
    let after = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    assert_eq!(after.authorizer.restore(put, true), 1);
    after.set_source(SourceBehaviour::Unreachable);
    for login in variants("alice") {
        assert_eq!(after.outcome(&login).await, (false, Source::Stale), "{login:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fail_mode_open_allows_nobody_new_once_a_denied_user_was_forgotten() {
    let mut settings = in_mode(FailMode::Open, StaleMatch::Exact);
    settings.cache.max_size = 2;
    let rig = Rig::new(settings);
    rig.decide(&login("bob", 1)).await;
    rig.set_source(answers(deny()));
    for name in ["eve", "mallory", "alice"] {
        rig.decide(&login(name, 1)).await;
    }
    rig.set_source(SourceBehaviour::Unreachable);
    sleep(400 * SECOND).await;
    assert_eq!(rig.outcome(&login("bob", 1)).await, (true, Source::Stale));
    for name in ["eve", "mallory", "alice"] {
        assert!(!rig.decide(&login(name, 2)).await.verdict.is_allow(), "{name}");
    }
    let decision = rig.decide(&login("bob", 2)).await;
    assert_eq!(
        (decision.verdict.is_allow(), decision.source),
        (false, Source::FailClose)
    );
    assert!(decision.outage.unwrap().contains("resilience.cache.max_size"));
}

#[tokio::test(start_paused = true)]
async fn fail_mode_open_allows_nobody_new_where_the_records_of_denied_users_were_lost() {
    let rig = Rig::new(in_mode(FailMode::Open, StaleMatch::User));
    rig.authorizer.restore(Records::default(), false);
    assert!(rig.decide(&login("bob", 1)).await.verdict.is_allow());
    rig.set_source(SourceBehaviour::Unreachable);
    sleep(400 * SECOND).await;
    assert_eq!(rig.outcome(&login("bob", 1)).await, (true, Source::Stale));
    for login in [login("bob", 2), login("alice", 1)] {
        assert_eq!(rig.outcome(&login).await, (false, Source::FailClose), "{login:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_without_an_answer_waits_for_the_records_of_an_earlier_run() {
    let before = Rig::new(SETTINGS);
    before.decide(&login("bob", 1)).await;
    before.authorizer.mark_all_changed();
    let Changes::Full(records) = before.authorizer.take_changes() else {
        panic!("everything has changed");
    };
    let rig = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    rig.authorizer.await_restore();
    let answered = rig.outcome(&login("carol", 1)).await;
    assert_eq!(answered, (true, Source::Portal), "an answer needs no records");
    rig.set_source(SourceBehaviour::Unreachable);
    let bob = login("bob", 1);
    let (outcome, restored) = tokio::join!(rig.outcome(&bob), async {
        sleep(SECOND).await;
        rig.authorizer.restore(records, true)
    });
    assert_eq!((outcome, restored), ((true, Source::Stale), 1));
    assert_eq!(rig.outcome(&login("eve", 1)).await, (true, Source::FailOpen));
}

#[tokio::test(start_paused = true)]
async fn records_that_are_not_read_in_time_let_no_fail_mode_allow_a_new_user() {
    for fail_mode in [FailMode::Open, FailMode::Stale, FailMode::Close] {
        let rig = Rig::new(in_mode(fail_mode, StaleMatch::Exact));
        rig.authorizer.await_restore();
        rig.set_source(SourceBehaviour::Unreachable);
        assert_eq!(rig.outcome(&login("eve", 1)).await, (false, Source::FailClose));
        rig.authorizer.end_wait_for_restore();
        let started = Instant::now();
        assert_eq!(rig.outcome(&login("eve", 1)).await, (false, Source::FailClose));
        assert_eq!(started.elapsed(), Duration::ZERO, "nothing is waited for");
    }
}
