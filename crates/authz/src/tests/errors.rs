//! Tests of answers without a verdict: whom they concern, and what they leave behind.

use super::*;
use ocserv_agent_model::Denial;
use resilience::BreakerState;

fn rejected() -> SourceBehaviour {
    SourceBehaviour::Fails(SourceError::Rejected(Denial {
        code: DenyCode::Policy,
        reason: "PERMISSION_DENIED".to_owned(),
    }))
}

fn invalid() -> SourceBehaviour {
    SourceBehaviour::Fails(SourceError::InvalidAnswer("nonsense".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn an_error_about_one_login_never_opens_the_breaker() {
    for behaviour in [rejected(), invalid()] {
        let rig = Rig::new(SETTINGS);
        rig.set_source(behaviour);
        for host in 0..50 {
            assert!(!rig.outcome(&login("mallory", host)).await.0);
        }
        assert_eq!(rig.authorizer.stats().breaker_state, BreakerState::Closed);
        assert_eq!(rig.authorizer.stats().breaker.failures, 0);
        rig.set_source(answers(allow()));
        assert_eq!(rig.outcome(&login("alice", 1)).await, (true, Source::Portal));
    }
}

fn failed() -> SourceBehaviour {
    SourceBehaviour::Fails(SourceError::Failed("UNKNOWN".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_for_one_user_keeps_the_breaker_closed() {
    let rig = Rig::new(SETTINGS);
    for host in 0..50 {
        rig.set_source(failed());
        let denied = rig.outcome(&login("mallory", host)).await;
        assert_eq!(denied, (false, Source::FailClose));
    }
    assert_eq!(rig.authorizer.stats().breaker_state, BreakerState::Closed);
    assert_eq!(rig.authorizer.stats().breaker.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_for_many_users_and_answers_others_keeps_the_breaker_closed() {
    let rig = Rig::new(SETTINGS);
    for host in 0..50 {
        rig.set_source(failed());
        assert!(!rig.outcome(&login(&format!("odd{host}"), host)).await.0);
        rig.set_source(answers(allow()));
        assert!(rig.outcome(&login("alice", host)).await.0);
    }
    assert_eq!(rig.authorizer.stats().breaker.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_for_every_user_opens_the_breaker_and_no_probe_closes_it() {
    let rig = Rig::new(SETTINGS);
    rig.set_source(failed());
    for host in 0..50 {
        assert!(!rig.outcome(&login(&format!("user{host}"), host)).await.0);
    }
    assert_eq!(rig.authorizer.stats().breaker_state, BreakerState::Open);
    sleep(400 * SECOND).await;
    assert!(!rig.outcome(&login("user1", 1)).await.0);
    assert_eq!(rig.authorizer.stats().breaker_state, BreakerState::Open);
    rig.set_source(answers(allow()));
    sleep(400 * SECOND).await;
    assert!(rig.outcome(&login("user1", 1)).await.0);
    assert_eq!(rig.authorizer.stats().breaker_state, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_denies_this_login_in_every_fail_mode_and_keeps_nothing() {
    for fail_mode in [FailMode::Open, FailMode::Close, FailMode::Stale] {
        let rig = Rig::new(Settings {
            fail_mode,
            ..SETTINGS
        });
        let (alice, newcomer) = (login("alice", 1), login("newcomer", 2));
        assert!(rig.outcome(&alice).await.0);
        let _ = rig.authorizer.take_changes();
        sleep(400 * SECOND).await;
        rig.set_source(rejected());
        for user in [&alice, &newcomer] {
            assert_eq!(rig.outcome(user).await, (false, Source::Portal), "{fail_mode:?}");
        }
        assert!(rig.authorizer.take_changes().is_empty(), "nothing goes to disk");
        // The allow from before still decides in an outage.
        rig.set_source(SourceBehaviour::Unreachable);
        let expected = match fail_mode {
            FailMode::Close => (false, Source::FailClose),
            FailMode::Open | FailMode::Stale => (true, Source::Stale),
        };
        assert_eq!(rig.outcome(&alice).await, expected, "{fail_mode:?}");
        // No deny was kept about the other user.
        let expected = match fail_mode {
            FailMode::Open => (true, Source::FailOpen),
            FailMode::Close | FailMode::Stale => (false, Source::FailClose),
        };
        assert_eq!(rig.outcome(&newcomer).await, expected, "{fail_mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_answer_is_decided_by_the_fail_mode() {
    for (fail_mode, cached, new) in [
        (FailMode::Open, (true, Source::Stale), (true, Source::FailOpen)),
        (
            FailMode::Close,
            (false, Source::FailClose),
            (false, Source::FailClose),
        ),
        (FailMode::Stale, (true, Source::Stale), (false, Source::FailClose)),
    ] {
        let rig = Rig::new(Settings {
            fail_mode,
            ..SETTINGS
        });
        let alice = login("alice", 1);
        assert!(rig.outcome(&alice).await.0);
        sleep(400 * SECOND).await;
        rig.set_source(invalid());
        assert_eq!(rig.outcome(&alice).await, cached, "{fail_mode:?}");
        assert_eq!(rig.outcome(&login("newcomer", 2)).await, new, "{fail_mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deny_that_ends_sessions_is_reported_after_it_is_stored_and_no_other_answer_is() {
    let rig = Rig::new(SETTINGS);
    let requests = || {
        let observed = rig.observed.lock().unwrap();
        let users = observed.iter().filter_map(|observation| match observation {
            Observation::DisconnectRequested { key, reason } => {
                Some((key.username.to_string(), reason.clone()))
            }
            _ => None,
        });
        users.collect::<Vec<_>>()
    };
    for (name, behaviour) in [
        ("alice", SourceBehaviour::Disconnects(allow())),
        ("eve", answers(deny())),
    ] {
        rig.set_source(behaviour);
        rig.decide(&login(name, 1)).await;
        assert!(requests().is_empty(), "neither an allow nor a deny alone");
    }
    rig.set_source(SourceBehaviour::Disconnects(deny()));
    assert!(!rig.outcome(&login("mallory", 2)).await.0);
    assert_eq!(
        requests(),
        [("mallory".to_owned(), "denied by policy".to_owned())]
    );
    assert_eq!(rig.outcome(&login("mallory", 2)).await, (false, Source::Cache));
    assert_eq!(requests().len(), 1, "a cached deny ends no session again");
}
