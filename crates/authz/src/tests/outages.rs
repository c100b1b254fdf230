//! Tests of decisions while the source is slow, wrong or unreachable.

use super::*;
use resilience::{BreakerState, TransitionCause};

/// The cached answer when the outage starts, with its age in seconds.
#[derive(Debug, Clone, Copy)]
enum Cached {
    Nothing,
    Allowed(u64),
    Denied(u64),
}

#[tokio::test(start_paused = true)]
async fn every_fail_mode_with_every_cached_answer() {
    use Cached::{Allowed, Denied, Nothing};
    use FailMode::{Close, Open, Stale};
    let allowed = |source| (true, source);
    let denied = |source| (false, source);
    for (cached, open, close, stale) in [
        (
            Nothing,
            allowed(Source::FailOpen),
            denied(Source::FailClose),
            denied(Source::FailClose),
        ),
        (
            Allowed(10),
            allowed(Source::Cache),
            allowed(Source::Cache),
            allowed(Source::Cache),
        ),
        (
            Denied(10),
            denied(Source::Cache),
            denied(Source::Cache),
            denied(Source::Cache),
        ),
        (
            Allowed(400),
            allowed(Source::Stale),
            denied(Source::FailClose),
            allowed(Source::Stale),
        ),
        (
            Denied(400),
            denied(Source::Stale),
            denied(Source::FailClose),
            denied(Source::Stale),
        ),
        (
            Allowed(1_800),
            allowed(Source::FailOpen),
            denied(Source::FailClose),
            denied(Source::FailClose),
        ),
        (
            Denied(1_800),
            denied(Source::Stale),
            denied(Source::FailClose),
            denied(Source::Stale),
        ),
        (
            Denied(90_000),
            denied(Source::Stale),
            denied(Source::FailClose),
            denied(Source::Stale),
        ),
    ] {
        for (fail_mode, expected) in [(Open, open), (Close, close), (Stale, stale)] {
            for outage in [
                SourceBehaviour::Unreachable,
                SourceBehaviour::Hangs,
                SourceBehaviour::Panics,
            ] {
                let rig = Rig::new(Settings {
                    fail_mode,
                    ..SETTINGS
                });
                let alice = login("alice", 1);
                let age = match cached {
                    Nothing => 0,
                    Allowed(age) | Denied(age) => {
                        let verdict = if matches!(cached, Allowed(_)) {
                            allow()
                        } else {
                            deny()
                        };
                        rig.set_source(answers(verdict));
                        rig.decide(&alice).await;
                        age
                    }
                };
                sleep(Duration::from_secs(age)).await;
                rig.set_source(outage.clone());
                let decision = rig.decide(&alice).await;
                let outcome = (decision.verdict.is_allow(), decision.source);
                assert_eq!(
                    outcome, expected,
                    "{cached:?} in mode {fail_mode}, source {outage:?}"
                );
                assert_eq!(
                    decision.outage.is_some(),
                    decision.source != Source::Cache,
                    "the log says why the source did not decide"
                );
                if matches!(decision.source, Source::Cache | Source::Stale) {
                    let waited = if matches!(outage, SourceBehaviour::Hangs) && age > 10 {
                        2
                    } else {
                        0
                    };
                    assert_eq!(
                        decision.age.as_secs(),
                        age + waited,
                        "{cached:?} in mode {fail_mode}"
                    );
                    let verdict = if matches!(cached, Allowed(_)) {
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
async fn a_deny_with_a_ttl_of_zero_is_no_outage_and_denies_during_one_in_every_mode() {
    for fail_mode in FailMode::ALL {
        let rig = Rig::new(Settings {
            fail_mode,
            ..SETTINGS
        });
        let alice = login("alice", 1);
        rig.set_source(SourceBehaviour::Answers {
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
            "each login queries the source, and none counts as a failure"
        );
        rig.set_source(SourceBehaviour::Unreachable);
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
    rig.set_source(SourceBehaviour::Hangs);
    let (calls, start) = (rig.calls(), Instant::now());
    assert_eq!(rig.outcome(&alice).await, (true, Source::Stale));
    assert_eq!(rig.outcome(&login("bob", 1)).await, (false, Source::FailClose));
    assert_eq!((rig.calls(), start.elapsed()), (calls, Duration::ZERO));
    assert_eq!(
        rig.authorizer.recent()[0].outage.as_deref(),
        Some("the circuit breaker is open")
    );
    // Half-open: one of many logins is the probe, the others do not wait for it.
    sleep(30 * SECOND).await;
    rig.set_source(answers_after(allow(), SECOND));
    let waiting: Vec<_> = (1..20)
        .map(|host| rig.spawn_login(&login("carol", host)))
        .collect();
    let mut portal = 0;
    for decision in waiting {
        portal += usize::from(decision.await.unwrap().source == Source::Portal);
    }
    assert_eq!((portal, rig.calls() - calls), (1, 1));
    assert_eq!(rig.outcome(&alice).await, (true, Source::Portal));
    let observed = rig.observed.lock().unwrap();
    let transitions = observed.iter().filter_map(|observation| match observation {
        Observation::Breaker(transition) => Some(transition.cause),
        Observation::Decided(_)
        | Observation::QueryEnded { .. }
        | Observation::DisconnectRequested { .. } => None,
    });
    assert_eq!(
        transitions.collect::<Vec<_>>(),
        [
            TransitionCause::Failures,
            TransitionCause::TimeoutPassed,
            TransitionCause::ProbesSucceeded
        ],
        "each transition is reported once"
    );
}

#[tokio::test(start_paused = true)]
async fn stale_is_never_served_while_the_source_answers() {
    let rig = Rig::new(SETTINGS);
    let alice = login("alice", 1);
    assert_eq!(rig.outcome(&alice).await, (true, Source::Portal));
    rig.set_source(answers(deny()));
    sleep(200 * SECOND).await;
    assert_eq!(rig.outcome(&alice).await, (true, Source::Cache));
    sleep(100 * SECOND).await;
    assert_eq!(rig.outcome(&alice).await, (false, Source::Portal));
    assert_eq!(rig.outcome(&alice).await, (false, Source::Cache));
    sleep(30 * SECOND).await;
    assert_eq!(rig.outcome(&alice).await, (false, Source::Portal));
}

#[tokio::test(start_paused = true)]
async fn a_hung_source_delays_no_login_past_its_deadline() {
    let rig = Rig::new(SETTINGS);
    rig.set_source(SourceBehaviour::Hangs);
    for (budget, duration, source) in [
        (5_000, 2_000, Source::FailClose),
        (1_000, 900, Source::FailClose),
        (100, 0, Source::Agent),
        (0, 0, Source::Agent),
    ] {
        let start = Instant::now();
        let host = u8::try_from(budget / 100).unwrap();
        let decision = rig
            .authorizer
            .decide(&login("alice", host), start + Duration::from_millis(budget))
            .await;
        assert_eq!((decision.verdict.is_allow(), decision.source), (false, source));
        assert_eq!(
            start.elapsed(),
            Duration::from_millis(duration),
            "with {budget} ms"
        );
    }
    assert_eq!(rig.calls(), 2, "a login without time left does not query");
}

#[tokio::test(start_paused = true)]
async fn with_stale_match_user_a_roaming_user_gets_the_latest_decision() {
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
            "only in an outage"
        );
        rig.set_source(SourceBehaviour::Unreachable);
        assert_eq!(rig.outcome(&login("alice", 3)).await, expected, "{stale_match:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_fail_mode_changes_at_run_time() {
    let rig = Rig::new(SETTINGS);
    rig.set_source(SourceBehaviour::Unreachable);
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
    // The clock of the next rig restarts; the records are ten minutes old by it.
    records
        .decisions
        .iter_mut()
        .for_each(|record| record.asked -= 600 * SECOND);
    let after = Rig::new(SETTINGS);
    assert_eq!(after.authorizer.restore(records, true), 1);
    after.set_source(SourceBehaviour::Unreachable);
    let decision = after.decide(&login("alice", 1)).await;
    assert_eq!(
        (decision.source, decision.age, decision.verdict),
        (Source::Stale, 600 * SECOND, allow())
    );
    after.set_source(answers(deny()));
    assert_eq!(
        after.outcome(&login("alice", 1)).await,
        (false, Source::Portal),
        "without an outage the source decides"
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_lost_reports_its_transition_with_the_login_that_finds_it() {
    let rig = Rig::new(SETTINGS);
    rig.open_the_breaker().await;
    sleep(30 * SECOND).await;
    rig.set_source(SourceBehaviour::Hangs);
    let probe = rig.spawn_login(&login("alice", 1));
    sleep(SECOND / 1_000).await;
    // The clock jumps over the probe's time, before its query ends.
    *rig.clock_ahead.lock().unwrap() = 30 * SECOND;
    let start = Instant::now();
    let decision = rig.authorizer.decide(&login("bob", 1), start + 60 * SECOND).await;
    assert_eq!(decision.outage.as_deref(), Some("the circuit breaker is open"));
    let observed = rig.observed.lock().unwrap();
    let last = observed.iter().rev().find_map(|observation| match observation {
        Observation::Breaker(transition) => Some(transition.cause),
        Observation::Decided(_)
        | Observation::QueryEnded { .. }
        | Observation::DisconnectRequested { .. } => None,
    });
    assert_eq!(last, Some(TransitionCause::ProbeLost));
    drop(probe);
}
