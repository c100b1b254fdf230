//! Tests of switches that hold for a time, and of invalidations that deny nobody.

use super::*;

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_switched_fail_mode_holds_for_its_time_and_goes_back_by_itself() {
    let rig = Rig::new(in_mode(FailMode::Stale, StaleMatch::Exact));
    let alice = login("alice", 1);
    rig.set_source(SourceBehaviour::Unreachable);
    assert_eq!(rig.outcome(&alice).await, (false, Source::FailClose));
    rig.authorizer
        .switch_fail_mode(Some((FailMode::Open, 60 * SECOND)));
    assert_eq!(rig.outcome(&alice).await, (true, Source::FailOpen));
    // A reload of the settings leaves it as it is.
    rig.authorizer
        .configure(in_mode(FailMode::Close, StaleMatch::Exact));
    sleep(59 * SECOND).await;
    assert_eq!(rig.outcome(&alice).await, (true, Source::FailOpen));
    sleep(SECOND).await;
    assert_eq!(rig.outcome(&alice).await, (false, Source::FailClose));
    assert_eq!(rig.authorizer.switches(), ActiveSwitches::default());

    rig.authorizer
        .switch_fail_mode(Some((FailMode::Open, 60 * SECOND)));
    rig.authorizer.switch_fail_mode(None);
    assert_eq!(rig.outcome(&alice).await, (false, Source::FailClose));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_forced_online_is_asked_about_or_denied() {
    for fail_mode in FailMode::ALL {
        let rig = Rig::new(in_mode(fail_mode, StaleMatch::User));
        let alice = login("alice", 1);
        assert_eq!(rig.outcome(&alice).await, (true, Source::Portal));
        assert_eq!(rig.outcome(&alice).await, (true, Source::Cache));
        rig.authorizer.force_online(Some(60 * SECOND));
        assert_eq!(rig.outcome(&alice).await, (true, Source::Portal), "{fail_mode}");
        rig.set_source(SourceBehaviour::Unreachable);
        // Also where the mode was switched, and whatever is cached and fresh.
        rig.authorizer
            .switch_fail_mode(Some((FailMode::Open, 60 * SECOND)));
        assert_eq!(
            rig.outcome(&alice).await,
            (false, Source::FailClose),
            "{fail_mode}"
        );
        sleep(60 * SECOND).await;
        assert_eq!(rig.outcome(&alice).await, (true, Source::Cache), "{fail_mode}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_user_is_asked_about_again_and_not_denied() {
    let rig = Rig::new(in_mode(FailMode::Open, StaleMatch::Exact));
    let (alice, bob) = (login("alice", 1), login("bob", 1));
    rig.decide(&alice).await;
    rig.decide(&bob).await;
    assert_eq!(rig.authorizer.invalidate_user(&name("alice")), 1);
    assert_eq!(rig.outcome(&bob).await, (true, Source::Cache));
    assert_eq!(rig.outcome(&alice).await, (true, Source::Portal));
    rig.authorizer.invalidate_user(&name("alice"));
    rig.set_source(SourceBehaviour::Unreachable);
    assert_eq!(rig.outcome(&alice).await, (true, Source::FailOpen), "not revoked");
}

#[tokio::test(start_paused = true)]
async fn after_an_invalidation_of_all_nothing_cached_allows_and_every_deny_stays() {
    let rig = Rig::new(in_mode(FailMode::Stale, StaleMatch::User));
    rig.set_source(answers(deny()));
    rig.decide(&login("mallory", 1)).await;
    rig.set_source(answers(allow()));
    for user in 0..200 {
        rig.decide(&login(&format!("u{user}"), 1)).await;
    }
    assert_eq!(rig.authorizer.invalidate_all(), 201);
    rig.set_source(SourceBehaviour::Unreachable);
    for user in ["u0", "u63", "u64", "u199"] {
        assert_eq!(
            rig.outcome(&login(user, 1)).await,
            (false, Source::FailClose),
            "{user}"
        );
    }
    assert_eq!(rig.outcome(&login("mallory", 1)).await, (false, Source::Stale));
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_before_an_invalidation_of_all_is_not_used() {
    let rig = Rig::new(SETTINGS);
    let alice = login("alice", 1);
    rig.set_source(answers_after(allow(), SECOND));
    let waiting = rig.spawn_login(&alice);
    sleep(SECOND / 2).await;
    rig.authorizer.invalidate_all();
    rig.set_source(answers(deny()));
    let decision = waiting.await.unwrap();
    assert!(!decision.verdict.is_allow(), "{decision:?}");
    assert!(!rig.outcome(&alice).await.0);
}
