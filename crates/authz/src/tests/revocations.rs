//! Tests of revoked users: decided again at once, denied in outages, free of races.

use super::*;

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

/// Revokes a user; returns the IDs of the logins that were allowed before.
fn revoke(rig: &Rig, user: &str) -> Vec<i32> {
    let allowed = rig.authorizer.revoke_user(&name(user), "account disabled");
    allowed.iter().map(|record| record.id.get()).collect()
}

#[tokio::test(start_paused = true)]
async fn no_fail_mode_allows_a_revoked_user_until_the_portal_does() {
    for fail_mode in FailMode::ALL {
        for stale_match in [StaleMatch::Exact, StaleMatch::User] {
            let rig = Rig::new(in_mode(fail_mode, stale_match));
            let (home, road) = (login("alice", 1), login("alice", 2));
            rig.decide(&home).await;
            revoke(&rig, "alice");
            rig.set_source(SourceBehaviour::Unreachable);
            for login in [&home, &road] {
                let decision = rig.decide(login).await;
                assert!(
                    !decision.verdict.is_allow(),
                    "{fail_mode} {stale_match:?} {login:?}"
                );
                assert!(decision.outage.is_some());
                if fail_mode != FailMode::Close {
                    let expected = Verdict::deny(DenyCode::Policy, "account disabled");
                    assert_eq!((decision.verdict, decision.source), (expected, Source::Stale));
                }
            }
            rig.set_source(answers(allow()));
            assert_eq!(rig.outcome(&home).await, (true, Source::Portal), "{fail_mode}");
            sleep(400 * SECOND).await;
            rig.set_source(SourceBehaviour::Unreachable);
            assert_eq!(
                rig.outcome(&home).await.0,
                fail_mode != FailMode::Close,
                "{fail_mode}"
            );
            assert_eq!(
                rig.outcome(&road).await.0,
                fail_mode == FailMode::Open
                    || (fail_mode, stale_match) == (FailMode::Stale, StaleMatch::User),
                "{fail_mode} {stale_match:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_user_is_decided_again_at_once_while_the_portal_answers() {
    let rig = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    let alice = login("alice", 1);
    rig.decide(&alice).await;
    revoke(&rig, "alice");
    assert_eq!(rig.outcome(&alice).await, (true, Source::Portal));
    revoke(&rig, "alice");
    rig.set_source(answers(deny()));
    assert_eq!(rig.outcome(&alice).await, (false, Source::Portal));
}

#[tokio::test(start_paused = true)]
async fn a_revocation_denies_in_outages_for_stale_ttl_and_no_longer() {
    let rig = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    revoke(&rig, "alice");
    rig.set_source(SourceBehaviour::Unreachable);
    sleep(1_799 * SECOND).await;
    let decision = rig.decide(&login("alice", 1)).await;
    assert_eq!((decision.source, decision.age), (Source::Stale, 1_799 * SECOND));
    sleep(SECOND).await;
    assert_eq!(rig.outcome(&login("alice", 1)).await, (true, Source::FailOpen));
    assert_eq!(rig.outcome(&login("bob", 1)).await, (true, Source::FailOpen));
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_an_outage_allows_no_revoked_user() {
    let before = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    before.decide(&login("alice", 1)).await;
    revoke(&before, "alice");
    let resilience::Changes::Partial { put, .. } = before.authorizer.take_changes() else {
        panic!()
    };
    let after = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    after.authorizer.restore(put, true);
    after.set_source(SourceBehaviour::Unreachable);
    assert_eq!(after.outcome(&login("alice", 2)).await, (false, Source::Stale));
}

#[tokio::test(start_paused = true)]
async fn a_revocation_returns_the_logins_that_were_allowed_before() {
    let rig = Rig::new(SETTINGS);
    let numbered = |name, number| Login {
        id: OcservId::new(number).unwrap(),
        ..login(name, 1)
    };
    rig.decide(&numbered("alice", 1)).await;
    rig.decide(&numbered("alice", 2)).await;
    rig.decide(&numbered("bob", 3)).await;
    rig.set_source(answers(deny()));
    let elsewhere = Login {
        client_ip: [192, 0, 2, 9].into(),
        ..numbered("alice", 4)
    };
    rig.decide(&elsewhere).await;
    rig.set_source(answers_after(allow(), SECOND));
    let waiting = rig.spawn_login(&Login {
        client_ip: [192, 0, 2, 10].into(),
        ..numbered("alice", 5)
    });
    sleep(SECOND / 2).await;
    assert_eq!(revoke(&rig, "alice"), [1, 2]);
    assert!(waiting.await.unwrap().verdict.is_allow());
    assert_eq!(rig.calls(), 5, "a login that waited is decided again");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_a_login_has_not_read_yet_is_invalidated_too() {
    let rig = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    rig.set_source(answers_after(allow(), SECOND));
    let alice = login("alice", 1);
    let mut decision = std::pin::pin!(rig.decide(&alice));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(decision.as_mut().poll(&mut context).is_pending());
    sleep(3 * SECOND / 2).await;
    assert_eq!(rig.authorizer.stats().queries, 0, "the query has ended");
    assert!(revoke(&rig, "alice").is_empty());
    rig.set_source(answers(deny()));
    let decision = decision.await;
    assert_eq!((decision.verdict, decision.source), (deny(), Source::Portal));
}

/// Revokes `user` at the `reading`-th reading of the clock from now on; the revocation then stores
/// the IDs of the logins that were allowed before.
fn revoke_at_reading(rig: &Rig, user: &str, reading: usize) -> Arc<Mutex<Vec<i32>>> {
    let (authorizer, user) = (rig.authorizer.clone(), name(user));
    let returned: Arc<Mutex<Vec<i32>>> = Arc::default();
    let ids = Arc::clone(&returned);
    let hook = move || {
        let allowed = authorizer.revoke_user(&user, "");
        let allowed = allowed.iter().map(|record| record.id.get());
        ids.lock().unwrap().extend(allowed);
    };
    let mut hooks = rig.hooks.lock().unwrap();
    hooks.extend((1..reading).map(|_| None));
    hooks.push_back(Some(Box::new(hook)));
    returned
}

#[tokio::test(start_paused = true)]
async fn a_login_during_a_revocation_is_decided_again_or_returned_as_allowed() {
    for (basis, source) in [
        (Source::Cache, SourceBehaviour::Hangs),
        (Source::FailOpen, SourceBehaviour::Unreachable),
    ] {
        for reading in 1..=10 {
            let rig = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
            let alice = login("alice", 1);
            if basis == Source::Cache {
                rig.decide(&alice).await;
            }
            rig.set_source(source.clone());
            let before = rig.authorizer.recent().len();
            let returned = revoke_at_reading(&rig, "alice", reading);
            let decision = rig.decide(&alice).await;
            let is_revoked = rig.hooks.lock().unwrap().is_empty();
            // The revocation either returned this login or denied it.
            let is_returned = returned.lock().unwrap().len() > before;
            assert!(
                !is_revoked || is_returned || !decision.verdict.is_allow(),
                "{basis} at reading {reading}: {decision:?}"
            );
        }
    }
}
