//! Users whom the portal throws out: decided anew at once, kept out by an outage, and no login slips through.

use super::*;

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

fn in_mode(fail_mode: FailMode, stale_match: StaleMatch) -> Settings {
    Settings {
        fail_mode,
        cache: CacheSettings {
            stale_match,
            ..SETTINGS.cache
        },
        ..SETTINGS
    }
}

/// The numbers of the logins that were let in before.
fn throw_out(rig: &Rig, user: &str) -> Vec<i32> {
    let let_in = rig.authorizer.revoke_user(&name(user), "left the company");
    let_in.iter().map(|record| record.id.get()).collect()
}

#[tokio::test(start_paused = true)]
async fn no_fail_mode_lets_in_who_was_thrown_out_until_the_portal_does() {
    for fail_mode in FailMode::ALL {
        for stale_match in [StaleMatch::Exact, StaleMatch::User] {
            let rig = Rig::new(in_mode(fail_mode, stale_match));
            let (home, road) = (login("alice", 1), login("alice", 2));
            rig.decide(&home).await;
            throw_out(&rig, "alice");
            rig.source_does(Does::IsGone);
            for login in [&home, &road] {
                let decision = rig.decide(login).await;
                assert!(
                    !decision.verdict.is_allow(),
                    "{fail_mode} {stale_match:?} {login:?}"
                );
                assert!(decision.outage.is_some());
                if fail_mode != FailMode::Close {
                    let why = Verdict::deny(DenyCode::Policy, "left the company");
                    assert_eq!((decision.verdict, decision.source), (why, Source::Stale));
                }
            }
            rig.source_does(says(allow()));
            assert_eq!(rig.outcome(&home).await, (true, Source::Portal), "{fail_mode}");
            sleep(400 * SECOND).await;
            rig.source_does(Does::IsGone);
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
async fn who_was_thrown_out_is_decided_anew_at_once_while_the_portal_answers() {
    let rig = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    let alice = login("alice", 1);
    rig.decide(&alice).await;
    throw_out(&rig, "alice");
    assert_eq!(rig.outcome(&alice).await, (true, Source::Portal));
    throw_out(&rig, "alice");
    rig.source_does(says(deny()));
    assert_eq!(rig.outcome(&alice).await, (false, Source::Portal));
}

#[tokio::test(start_paused = true)]
async fn an_outage_keeps_nobody_out_for_longer_than_stale_ttl_because_she_was_thrown_out() {
    let rig = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    throw_out(&rig, "alice");
    rig.source_does(Does::IsGone);
    sleep(1_799 * SECOND).await;
    let decision = rig.decide(&login("alice", 1)).await;
    assert_eq!((decision.source, decision.age), (Source::Stale, 1_799 * SECOND));
    sleep(SECOND).await;
    assert_eq!(rig.outcome(&login("alice", 1)).await, (true, Source::FailOpen));
    assert_eq!(rig.outcome(&login("bob", 1)).await, (true, Source::FailOpen));
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_an_outage_lets_nobody_in_who_was_thrown_out() {
    let before = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    before.decide(&login("alice", 1)).await;
    throw_out(&before, "alice");
    let resilience::Changes::Partial { put, .. } = before.authorizer.take_changes() else {
        panic!()
    };
    let after = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    after.authorizer.restore(put);
    after.source_does(Does::IsGone);
    assert_eq!(after.outcome(&login("alice", 2)).await, (false, Source::Stale));
}

#[tokio::test(start_paused = true)]
async fn whoever_throws_a_user_out_learns_which_of_her_logins_were_let_in_before() {
    let rig = Rig::new(SETTINGS);
    let numbered = |name, number| Login {
        id: OcservId::new(number).unwrap(),
        ..login(name, 1)
    };
    rig.decide(&numbered("alice", 1)).await;
    rig.decide(&numbered("alice", 2)).await;
    rig.decide(&numbered("bob", 3)).await;
    rig.source_does(says(deny()));
    let elsewhere = Login {
        client_ip: [192, 0, 2, 9].into(),
        ..numbered("alice", 4)
    };
    rig.decide(&elsewhere).await;
    rig.source_does(slowly(allow(), SECOND));
    let waits = rig.begin(&Login {
        client_ip: [192, 0, 2, 10].into(),
        ..numbered("alice", 5)
    });
    sleep(SECOND / 2).await;
    assert_eq!(throw_out(&rig, "alice"), [1, 2]);
    assert!(waits.await.unwrap().verdict.is_allow());
    assert_eq!(rig.calls(), 5, "who waited is decided anew");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_a_login_has_not_heard_yet_is_overtaken_too() {
    let rig = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    rig.source_does(slowly(allow(), SECOND));
    let alice = login("alice", 1);
    let mut deciding = std::pin::pin!(rig.decide(&alice));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(deciding.as_mut().poll(&mut context).is_pending());
    sleep(3 * SECOND / 2).await;
    assert_eq!(rig.authorizer.stats().questions, 0, "the answer is there");
    assert!(throw_out(&rig, "alice").is_empty());
    rig.source_does(says(deny()));
    let decision = deciding.await;
    assert_eq!((decision.verdict, decision.source), (deny(), Source::Portal));
}

/// Has `user` thrown out at the `look`-th time that the pipeline looks at the clock from now on.
fn meanwhile_thrown_out(rig: &Rig, user: &str, look: usize) -> Arc<Mutex<Vec<i32>>> {
    let (authorizer, user, seen) = (rig.authorizer.clone(), name(user), Arc::default());
    let caught: Arc<Mutex<Vec<i32>>> = Arc::clone(&seen);
    let happens = move || {
        let let_in = authorizer.revoke_user(&user, "");
        caught
            .lock()
            .unwrap()
            .extend(let_in.iter().map(|record| record.id.get()));
    };
    let mut looks = rig.meanwhile.lock().unwrap();
    looks.extend((1..look).map(|_| None));
    looks.push_back(Some(Box::new(happens)));
    seen
}

#[tokio::test(start_paused = true)]
async fn wherever_a_revocation_meets_a_login_it_is_decided_anew_or_known_to_be_let_in() {
    for (known, source) in [(Source::Cache, Does::Hangs), (Source::FailOpen, Does::IsGone)] {
        for look in 1..=10 {
            let rig = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
            let alice = login("alice", 1);
            if known == Source::Cache {
                rig.decide(&alice).await;
            }
            rig.source_does(source.clone());
            let before = rig.authorizer.recent().len();
            let caught = meanwhile_thrown_out(&rig, "alice", look);
            let decision = rig.decide(&alice).await;
            let is_overtaken = rig.meanwhile.lock().unwrap().is_empty();
            // The one who threw her out either finds this login on the record or has kept it out.
            let is_known = caught.lock().unwrap().len() > before;
            assert!(
                !is_overtaken || is_known || !decision.verdict.is_allow(),
                "{known} at look {look}: {decision:?}"
            );
        }
    }
}
