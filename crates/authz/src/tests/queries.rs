//! Tests of queries: one per key, shared by every login that waits.

use super::*;
use resilience::BreakerState;

fn alice() -> Username {
    Username::parse("alice").unwrap()
}

/// Runs every task that is ready.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn five_hundred_equal_logins_share_one_call_and_its_result() {
    for (behaviour, expected) in [
        (answers_after(allow(), SECOND), (true, Source::Portal)),
        (answers_after(deny(), SECOND), (false, Source::Portal)),
        (SourceBehaviour::Hangs, (false, Source::FailClose)),
        (SourceBehaviour::Panics, (false, Source::FailClose)),
    ] {
        let rig = Rig::new(SETTINGS);
        rig.set_source(behaviour.clone());
        let logins: Vec<_> = (0..500).map(|_| rig.spawn_login(&login("alice", 1))).collect();
        for decision in logins {
            let decision = decision.await.unwrap();
            assert_eq!(
                (decision.verdict.is_allow(), decision.source),
                expected,
                "{behaviour:?}"
            );
        }
        assert_eq!(
            (rig.calls(), rig.authorizer.stats().queries),
            (1, 0),
            "{behaviour:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_login_does_not_cancel_the_query_of_the_others() {
    let rig = Rig::new(SETTINGS);
    rig.set_source(answers_after(allow(), SECOND));
    let leader = rig.spawn_login(&login("alice", 1));
    settle().await;
    let follower = rig.spawn_login(&login("alice", 1));
    settle().await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    assert_eq!(follower.await.unwrap().source, Source::Portal);
    // Without any login left the answer is cached all the same.
    let alone = rig.spawn_login(&login("bob", 1));
    settle().await;
    alone.abort();
    sleep(2 * SECOND).await;
    assert_eq!(rig.outcome(&login("bob", 1)).await, (true, Source::Cache));
    assert_eq!(rig.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_login_that_timed_out_serves_the_next_one() {
    let rig = Rig::new(SETTINGS);
    rig.set_source(answers_after(allow(), SECOND));
    let timed_out = rig
        .authorizer
        .decide(&login("alice", 1), Instant::now() + SECOND / 2)
        .await;
    assert_eq!(timed_out.source, Source::FailClose);
    let stats = rig.authorizer.stats();
    assert_eq!(
        (stats.queries, stats.breaker.failures),
        (1, 0),
        "a short deadline is no failure of the source"
    );
    sleep(SECOND).await;
    assert_eq!(rig.outcome(&login("alice", 1)).await, (true, Source::Cache));
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_does_not_resurrect_an_invalidated_user() {
    let rig = Rig::new(SETTINGS);
    rig.set_source(answers_after(allow(), SECOND));
    let waiting = rig.spawn_login(&login("alice", 1));
    let other = rig.spawn_login(&login("bob", 1));
    settle().await;
    rig.authorizer.revoke_user(&alice(), "");
    rig.set_source(answers(deny()));
    // A login after the invalidation does not join the query from before it.
    assert_eq!(rig.outcome(&login("alice", 1)).await, (false, Source::Portal));
    rig.authorizer.revoke_user(&alice(), "");
    rig.set_source(answers_after(deny(), SECOND / 10));
    let waited = waiting.await.unwrap();
    assert_eq!(
        (waited.verdict, waited.source),
        (deny(), Source::Portal),
        "a login that waited queries again"
    );
    assert_eq!(rig.outcome(&login("alice", 1)).await, (false, Source::Cache));
    assert!(other.await.unwrap().verdict.is_allow());
    assert_eq!(
        rig.outcome(&login("bob", 1)).await,
        (true, Source::Cache),
        "other users are not affected"
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_invalidated_query_leaves_the_next_one_joinable() {
    let rig = Rig::new(SETTINGS);
    rig.set_source(answers_after(allow(), SECOND));
    let leader = rig.spawn_login(&login("alice", 1));
    settle().await;
    rig.authorizer.revoke_user(&alice(), "");
    leader.abort();
    sleep(SECOND / 2).await;
    let second = rig.spawn_login(&login("alice", 1));
    sleep(SECOND * 3 / 4).await;
    // The first query has ended, the second is in flight: the third login joins it.
    let third = rig.spawn_login(&login("alice", 1));
    assert!(second.await.unwrap().verdict.is_allow() && third.await.unwrap().verdict.is_allow());
    assert_eq!(rig.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_invalidated_repeatedly_allows_no_login() {
    let rig = Rig::new(SETTINGS);
    rig.set_source(answers_after(allow(), SECOND / 2));
    let waiting = rig.spawn_login(&login("alice", 1));
    while !waiting.is_finished() {
        sleep(SECOND / 10).await;
        rig.authorizer.revoke_user(&alice(), "");
    }
    assert_eq!(waiting.await.unwrap().source, Source::FailClose);
    assert_eq!(rig.calls(), 3);
    assert_eq!(rig.authorizer.stats().queries, 0);
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_deny_denies_until_a_later_answer_allows() {
    let open = Settings {
        fail_mode: FailMode::Open,
        ..SETTINGS
    };
    for (then, expected) in [
        (answers_after(deny(), SECOND / 2), (false, Source::Portal)),
        (SourceBehaviour::Unreachable, (false, Source::Portal)),
        (answers_after(allow(), SECOND / 10), (true, Source::Portal)),
    ] {
        let rig = Rig::new(open);
        rig.set_source(answers_after(deny(), SECOND / 2));
        let waiting = rig.spawn_login(&login("alice", 1));
        settle().await;
        rig.authorizer.revoke_user(&alice(), "");
        rig.set_source(then.clone());
        while matches!(then, SourceBehaviour::Answers { ref verdict, .. } if !verdict.is_allow())
            && !waiting.is_finished()
        {
            sleep(SECOND / 10).await;
            rig.authorizer.revoke_user(&alice(), "");
        }
        let decision = waiting.await.unwrap();
        assert_eq!(
            (decision.verdict.is_allow(), decision.source),
            expected,
            "{then:?}"
        );
        let outage = match then {
            SourceBehaviour::Unreachable => Some("not connected"),
            _ if expected.0 => None,
            _ => Some("every answer was invalidated before it could be used"),
        };
        assert_eq!(decision.outage.as_deref(), outage);
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_without_time_for_a_query_is_no_outage() {
    for fail_mode in FailMode::ALL {
        let rig = Rig::new(Settings {
            fail_mode,
            ..SETTINGS
        });
        let alice = login("alice", 1);
        rig.decide(&alice).await;
        sleep(400 * SECOND).await;
        rig.set_source(answers(deny()));
        // The portal denies: neither an expired allow nor the fail mode allows the login.
        for login in [&alice, &login("bob", 1)] {
            let deadline = Instant::now() + SETTINGS.margin;
            let decision = rig.authorizer.decide(login, deadline).await;
            assert_eq!(
                (decision.verdict.is_allow(), decision.source),
                (false, Source::Agent),
                "{fail_mode}"
            );
        }
        assert_eq!(rig.calls(), 1);
    }
}

#[test]
fn a_runtime_that_shuts_down_during_a_login_leaves_no_lock_held() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let handle = runtime.handle().clone();
    runtime.shutdown_timeout(10 * SECOND);
    let (done, ended) = std::sync::mpsc::channel();
    let login = std::thread::spawn(move || {
        let _inside = handle.enter();
        let rig = Rig::new(SETTINGS);
        let alice = login("alice", 1);
        let mut decision = std::pin::pin!(rig.decide(&alice));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        // Tokio panics, because the runtime's timer has shut down.
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _polled = decision.as_mut().poll(&mut context);
        }));
        drop(polled);
        done.send(rig.authorizer.stats().queries).unwrap();
    });
    assert_eq!(ended.recv_timeout(30 * SECOND), Ok(0));
    login.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_portal_sets_the_ttl_of_each_decision() {
    let rig = Rig::new(SETTINGS);
    let alice = login("alice", 1);
    let with_ttl = |seconds| SourceBehaviour::Answers {
        verdict: allow(),
        ttl: Some(Duration::from_secs(seconds)),
        after: Duration::ZERO,
    };
    rig.set_source(with_ttl(60));
    rig.decide(&alice).await;
    sleep(59 * SECOND).await;
    assert_eq!(rig.outcome(&alice).await, (true, Source::Cache));
    sleep(SECOND).await;
    rig.set_source(with_ttl(0));
    // The refresh in the last fifth queried too, at second 59.
    rig.authorizer.revoke_user(&alice.username, "");
    for _ in 0..3 {
        assert_eq!(rig.outcome(&alice).await, (true, Source::Portal));
    }
    rig.set_source(SourceBehaviour::Unreachable);
    assert_eq!(
        rig.outcome(&alice).await,
        (false, Source::FailClose),
        "a TTL of zero is not cached"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_near_its_expiry_is_served_and_refreshed_once_in_the_background() {
    let rig = Rig::new(SETTINGS);
    let alice = login("alice", 1);
    rig.decide(&alice).await;
    sleep(250 * SECOND).await;
    rig.set_source(answers_after(deny(), SECOND));
    let start = Instant::now();
    for _ in 0..10 {
        assert_eq!(rig.outcome(&alice).await, (true, Source::Cache));
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "no login waits for the refresh");
    sleep(2 * SECOND).await;
    assert_eq!(rig.outcome(&alice).await, (false, Source::Cache));
    assert_eq!(rig.calls(), 2);
    // A refresh that fails is not repeated, and the answer stays fresh.
    let bob = login("bob", 1);
    rig.set_source(answers(allow()));
    rig.decide(&bob).await;
    sleep(250 * SECOND).await;
    rig.set_source(SourceBehaviour::Unreachable);
    let calls = rig.calls();
    for _ in 0..10 {
        assert_eq!(rig.outcome(&bob).await, (true, Source::Cache));
        settle().await;
    }
    assert_eq!(rig.calls() - calls, 1);
}

#[tokio::test(start_paused = true)]
async fn queries_in_flight_are_bounded() {
    let rig = Rig::new(Settings {
        max_queries: 3,
        ..SETTINGS
    });
    rig.set_source(SourceBehaviour::Hangs);
    let logins: Vec<_> = (1..=10)
        .map(|host| rig.spawn_login(&login("alice", host)))
        .collect();
    settle().await;
    assert_eq!(
        (
            rig.calls(),
            logins.iter().filter(|login| login.is_finished()).count()
        ),
        (3, 7)
    );
    for decision in logins {
        assert_eq!(decision.await.unwrap().source, Source::FailClose);
    }
    let stats = rig.authorizer.stats();
    assert_eq!((stats.queries, stats.breaker.failures), (0, 3));
    // Queries that an invalidation closed to new logins still count.
    let before: Vec<_> = (1..=3)
        .map(|host| rig.spawn_login(&login("alice", host)))
        .collect();
    settle().await;
    rig.authorizer.revoke_user(&alice(), "");
    assert_eq!(rig.outcome(&login("alice", 1)).await, (false, Source::Stale));
    assert_eq!(rig.calls(), 6);
    drop(before);
}

#[tokio::test(start_paused = true)]
async fn a_query_whose_task_ends_is_cancelled_for_the_breaker_and_removed() {
    let rig = Rig::new(Settings {
        breaker: BreakerSettings {
            failure_threshold: 1,
            ..SETTINGS.breaker
        },
        ..SETTINGS
    });
    rig.set_source(SourceBehaviour::Panics);
    rig.decide(&login("alice", 1)).await;
    rig.set_source(SourceBehaviour::Hangs);
    let waiting = rig.spawn_login(&login("alice", 1));
    settle().await;
    rig.stop.cancel();
    assert_eq!(waiting.await.unwrap().source, Source::FailClose);
    let stats = rig.authorizer.stats();
    assert_eq!(
        (stats.breaker.cancelled, stats.breaker_state, stats.queries),
        (2, BreakerState::Closed, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn the_embedded_policy_bypasses_cache_and_breaker() {
    let rig = Rig::with_source(
        Source::Embedded,
        Settings {
            fail_mode: FailMode::Open,
            ..SETTINGS
        },
    );
    for calls in 1..4 {
        assert_eq!(rig.outcome(&login("alice", 1)).await, (true, Source::Embedded));
        assert_eq!((rig.calls(), rig.authorizer.stats().cache.size), (calls, 0));
    }
    rig.set_source(answers(deny()));
    assert_eq!(rig.outcome(&login("alice", 1)).await, (false, Source::Embedded));
    for behaviour in [SourceBehaviour::Unreachable, SourceBehaviour::Hangs] {
        rig.set_source(behaviour);
        assert_eq!(rig.outcome(&login("alice", 1)).await, (false, Source::FailClose));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_thousand_decisions_are_kept_for_the_operator() {
    let rig = Rig::new(SETTINGS);
    for host in 0..5 {
        for _ in 0..250 {
            rig.decide(&login("alice", host)).await;
        }
    }
    rig.set_source(SourceBehaviour::Unreachable);
    rig.decide(&login("bob", 1)).await;
    let recent = rig.authorizer.recent();
    assert_eq!(recent.len(), 1_000);
    let last = &recent[0];
    assert_eq!(
        (last.username.as_str(), last.source, last.allowed()),
        ("bob", Source::FailClose, false)
    );
    assert_eq!(
        (last.deny_code, last.outage.as_deref()),
        (Some(DenyCode::Outage), Some("not connected"))
    );
    assert!(
        recent[1].allowed()
            && recent[1].source == Source::Cache
            && recent[999].client_ip == login("a", 1).client_ip
    );
}
