//! What a login gets when the source is slow, wrong or gone.

use super::*;
use resilience::{BreakerState, TransitionCause};

/// What is known about the login when the outage meets it.
#[derive(Debug, Clone, Copy)]
enum Known {
    Nothing,
    Allowed(u64),
    Denied(u64),
}

#[tokio::test(start_paused = true)]
async fn every_fail_mode_meets_everything_that_can_be_known() {
    use FailMode::{Close, Open, Stale};
    use Known::{Allowed, Denied, Nothing};
    let yes = |source| (true, source);
    let no = |source| (false, source);
    for (known, open, close, stale) in [
        (
            Nothing,
            yes(Source::FailOpen),
            no(Source::FailClose),
            no(Source::FailClose),
        ),
        (
            Allowed(10),
            yes(Source::Cache),
            yes(Source::Cache),
            yes(Source::Cache),
        ),
        (
            Denied(10),
            no(Source::Cache),
            no(Source::Cache),
            no(Source::Cache),
        ),
        (
            Allowed(400),
            yes(Source::Stale),
            no(Source::FailClose),
            yes(Source::Stale),
        ),
        (
            Denied(400),
            no(Source::Stale),
            no(Source::FailClose),
            no(Source::Stale),
        ),
        (
            Allowed(1_800),
            yes(Source::FailOpen),
            no(Source::FailClose),
            no(Source::FailClose),
        ),
        (
            Denied(1_800),
            no(Source::Stale),
            no(Source::FailClose),
            no(Source::Stale),
        ),
        (
            Denied(90_000),
            no(Source::Stale),
            no(Source::FailClose),
            no(Source::Stale),
        ),
    ] {
        for (fail_mode, expected) in [(Open, open), (Close, close), (Stale, stale)] {
            for outage in [Does::IsGone, Does::Hangs, Does::Panics] {
                let rig = Rig::new(Settings {
                    fail_mode,
                    ..SETTINGS
                });
                let alice = login("alice", 1);
                let age = match known {
                    Nothing => 0,
                    Allowed(age) | Denied(age) => {
                        let verdict = if matches!(known, Allowed(_)) {
                            allow()
                        } else {
                            deny()
                        };
                        rig.source_does(says(verdict));
                        rig.decide(&alice).await;
                        age
                    }
                };
                sleep(Duration::from_secs(age)).await;
                rig.source_does(outage.clone());
                let decision = rig.decide(&alice).await;
                let outcome = (decision.verdict.is_allow(), decision.source);
                assert_eq!(
                    outcome, expected,
                    "{known:?} in mode {fail_mode}, source {outage:?}"
                );
                if matches!(decision.source, Source::Cache | Source::Stale) {
                    let waited = if matches!(outage, Does::Hangs) && age > 10 {
                        2
                    } else {
                        0
                    };
                    assert_eq!(
                        decision.age.as_secs(),
                        age + waited,
                        "{known:?} in mode {fail_mode}"
                    );
                    let verdict = if matches!(known, Allowed(_)) {
                        allow()
                    } else {
                        deny()
                    };
                    assert_eq!(
                        decision.verdict, verdict,
                        "the whole verdict is served, routes and reason too"
                    );
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_no_that_must_not_be_kept_is_no_outage_and_outlasts_one_in_every_mode() {
    for fail_mode in FailMode::ALL {
        let rig = Rig::new(Settings {
            fail_mode,
            ..SETTINGS
        });
        let alice = login("alice", 1);
        rig.source_does(Does::Says {
            verdict: deny(),
            ttl: Some(Duration::ZERO),
            after: Duration::ZERO,
        });
        for _ in 0..20 {
            assert_eq!(rig.outcome(&alice).await, (false, Source::Portal));
        }
        assert_eq!(
            (rig.calls(), rig.authorizer.stats().breaker_state),
            (20, BreakerState::Closed),
            "each login asks, and none counts against the source"
        );
        rig.source_does(Does::IsGone);
        assert!(!rig.outcome(&alice).await.0, "{fail_mode}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_decides_at_once_and_one_probe_closes_it() {
    let rig = Rig::new(SETTINGS);
    let alice = login("alice", 1);
    rig.decide(&alice).await;
    sleep(400 * SECOND).await;
    rig.open_the_breaker().await;
    rig.source_does(Does::Hangs);
    let (calls, begin) = (rig.calls(), Instant::now());
    assert_eq!(rig.outcome(&alice).await, (true, Source::Stale));
    assert_eq!(rig.outcome(&login("bob", 1)).await, (false, Source::FailClose));
    assert_eq!((rig.calls(), begin.elapsed()), (calls, Duration::ZERO));
    assert_eq!(
        rig.authorizer.recent()[0].outage.as_deref(),
        Some("the circuit breaker is open")
    );
    // Half-open: one of many logins is the probe, the others do not wait for it.
    sleep(30 * SECOND).await;
    rig.source_does(slowly(allow(), SECOND));
    let waiting: Vec<_> = (1..20).map(|host| rig.begin(&login("carol", host))).collect();
    let mut portal = 0;
    for decision in waiting {
        portal += usize::from(decision.await.unwrap().source == Source::Portal);
    }
    assert_eq!((portal, rig.calls() - calls), (1, 1));
    assert_eq!(rig.outcome(&alice).await, (true, Source::Portal));
    let seen = rig.seen.lock().unwrap();
    let transitions = seen.iter().filter_map(|observation| match observation {
        Observation::Breaker(transition) => Some(transition.cause),
        Observation::Decided(_) | Observation::Asked { .. } => None,
    });
    assert_eq!(
        transitions.collect::<Vec<_>>(),
        [
            TransitionCause::Failures,
            TransitionCause::TimeoutPassed,
            TransitionCause::ProbesSucceeded
        ],
        "each transition is told once"
    );
}

#[tokio::test(start_paused = true)]
async fn stale_is_never_served_while_the_source_answers() {
    let rig = Rig::new(SETTINGS);
    let alice = login("alice", 1);
    assert_eq!(rig.outcome(&alice).await, (true, Source::Portal));
    rig.source_does(says(deny()));
    sleep(200 * SECOND).await;
    assert_eq!(rig.outcome(&alice).await, (true, Source::Cache));
    sleep(100 * SECOND).await;
    assert_eq!(rig.outcome(&alice).await, (false, Source::Portal));
    assert_eq!(rig.outcome(&alice).await, (false, Source::Cache));
    sleep(30 * SECOND).await;
    assert_eq!(rig.outcome(&alice).await, (false, Source::Portal));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_source_does_not_make_a_login_late() {
    let rig = Rig::new(SETTINGS);
    rig.source_does(Does::Hangs);
    for (budget, took, source) in [
        (5_000, 2_000, Source::FailClose),
        (1_000, 900, Source::FailClose),
        (100, 0, Source::Agent),
        (0, 0, Source::Agent),
    ] {
        let begin = Instant::now();
        let host = u8::try_from(budget / 100).unwrap();
        let decision = rig
            .authorizer
            .decide(&login("alice", host), begin + Duration::from_millis(budget))
            .await;
        assert_eq!((decision.verdict.is_allow(), decision.source), (false, source));
        assert_eq!(begin.elapsed(), Duration::from_millis(took), "with {budget} ms");
    }
    assert_eq!(rig.calls(), 2, "who has no time left asks nobody");
}

#[tokio::test(start_paused = true)]
async fn a_roaming_user_may_use_her_last_decision_where_that_is_configured() {
    for (stale_match, expected) in [
        (StaleMatch::Exact, (false, Source::FailClose)),
        (StaleMatch::User, (true, Source::Stale)),
    ] {
        let rig = Rig::new(Settings {
            cache: CacheSettings {
                stale_match,
                ..SETTINGS.cache
            },
            ..SETTINGS
        });
        rig.decide(&login("alice", 1)).await;
        assert_eq!(
            rig.outcome(&login("alice", 2)).await,
            (true, Source::Portal),
            "only an outage looks elsewhere"
        );
        rig.authorizer.invalidate_all();
        rig.decide(&login("alice", 1)).await;
        rig.source_does(Does::IsGone);
        assert_eq!(rig.outcome(&login("alice", 2)).await, expected, "{stale_match:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_fail_mode_changes_while_it_runs() {
    let rig = Rig::new(SETTINGS);
    rig.source_does(Does::IsGone);
    for (fail_mode, expected) in [
        (FailMode::Stale, (false, Source::FailClose)),
        (FailMode::Open, (true, Source::FailOpen)),
        (FailMode::Close, (false, Source::FailClose)),
    ] {
        rig.authorizer.configure(Settings {
            fail_mode,
            ..SETTINGS
        });
        assert_eq!(rig.outcome(&login("alice", 1)).await, expected, "{fail_mode}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_an_outage_finds_the_decisions_with_their_true_age() {
    let before = Rig::new(SETTINGS);
    before.decide(&login("alice", 1)).await;
    let resilience::Changes::Partial { put: mut records, .. } = before.authorizer.take_changes() else {
        panic!()
    };
    // The clock of the next rig begins anew; the records are ten minutes old by it.
    records
        .decisions
        .iter_mut()
        .for_each(|record| record.asked -= 600 * SECOND);
    let after = Rig::new(SETTINGS);
    assert_eq!(after.authorizer.restore(records), 1);
    after.source_does(Does::IsGone);
    let decision = after.decide(&login("alice", 1)).await;
    assert_eq!(
        (decision.source, decision.age, decision.verdict),
        (Source::Stale, 600 * SECOND, allow())
    );
    after.source_does(says(deny()));
    assert_eq!(
        after.outcome(&login("alice", 1)).await,
        (false, Source::Portal),
        "and nothing when there is none"
    );
}
