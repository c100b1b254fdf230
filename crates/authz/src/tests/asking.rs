//! How the source is asked: once, by whoever comes first, for everyone.

use std::num::NonZeroU32;

use super::*;
use resilience::{BreakerState, Rate};

/// Lets every task run that can.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn five_hundred_equal_logins_make_one_call_and_share_its_end() {
    for (does, expected) in [
        (slowly(allow(), SECOND), (true, Source::Portal)),
        (slowly(deny(), SECOND), (false, Source::Portal)),
        (Does::Hangs, (false, Source::FailClose)),
        (Does::Panics, (false, Source::FailClose)),
    ] {
        let rig = Rig::new(SETTINGS);
        rig.source_does(does.clone());
        let logins: Vec<_> = (0..500).map(|_| rig.begin(&login("alice", 1))).collect();
        for decision in logins {
            let decision = decision.await.unwrap();
            assert_eq!(
                (decision.verdict.is_allow(), decision.source),
                expected,
                "{does:?}"
            );
        }
        assert_eq!(
            (rig.calls(), rig.authorizer.stats().questions),
            (1, 0),
            "{does:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_leader_strands_nobody() {
    let rig = Rig::new(SETTINGS);
    rig.source_does(slowly(allow(), SECOND));
    let leader = rig.begin(&login("alice", 1));
    settle().await;
    let follower = rig.begin(&login("alice", 1));
    settle().await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    assert_eq!(follower.await.unwrap().source, Source::Portal);
    // And with nobody left the answer is kept all the same.
    let alone = rig.begin(&login("bob", 1));
    settle().await;
    alone.abort();
    sleep(2 * SECOND).await;
    assert_eq!(rig.outcome(&login("bob", 1)).await, (true, Source::Cache));
    assert_eq!(rig.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_cannot_wait_leaves_the_answer_to_the_next_one() {
    let rig = Rig::new(SETTINGS);
    rig.source_does(slowly(allow(), SECOND));
    let hurried = rig
        .authorizer
        .decide(&login("alice", 1), Instant::now() + SECOND / 2)
        .await;
    assert_eq!(hurried.source, Source::FailClose);
    let stats = rig.authorizer.stats();
    assert_eq!(
        (stats.questions, stats.breaker.failures),
        (1, 0),
        "one caller's hurry is no fault of the source"
    );
    sleep(SECOND).await;
    assert_eq!(rig.outcome(&login("alice", 1)).await, (true, Source::Cache));
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_does_not_resurrect_an_invalidated_user() {
    let rig = Rig::new(SETTINGS);
    rig.source_does(slowly(allow(), SECOND));
    let waiting = rig.begin(&login("alice", 1));
    let other = rig.begin(&login("bob", 1));
    settle().await;
    rig.authorizer.revoke_user(&Username::parse("alice").unwrap(), "");
    rig.source_does(says(deny()));
    // A login from after the invalidation does not wait for the question from before it.
    assert_eq!(rig.outcome(&login("alice", 1)).await, (false, Source::Portal));
    rig.authorizer.revoke_user(&Username::parse("alice").unwrap(), "");
    rig.source_does(slowly(deny(), SECOND / 10));
    let waited = waiting.await.unwrap();
    assert_eq!(
        (waited.verdict, waited.source),
        (deny(), Source::Portal),
        "who waited asks again"
    );
    assert_eq!(rig.outcome(&login("alice", 1)).await, (false, Source::Cache));
    assert!(other.await.unwrap().verdict.is_allow());
    assert_eq!(
        rig.outcome(&login("bob", 1)).await,
        (true, Source::Cache),
        "others are not touched"
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_overtaken_question_leaves_the_one_after_it_alone() {
    let rig = Rig::new(SETTINGS);
    rig.source_does(slowly(allow(), SECOND));
    let leader = rig.begin(&login("alice", 1));
    settle().await;
    rig.authorizer.invalidate_all();
    leader.abort();
    sleep(SECOND / 2).await;
    let second = rig.begin(&login("alice", 1));
    sleep(SECOND * 3 / 4).await;
    // The first question has landed, the second is under way: the third login joins it.
    let third = rig.begin(&login("alice", 1));
    assert!(second.await.unwrap().verdict.is_allow() && third.await.unwrap().verdict.is_allow());
    assert_eq!(rig.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_overtaken_again_and_again_lets_nobody_in() {
    let rig = Rig::new(SETTINGS);
    rig.source_does(slowly(allow(), SECOND / 2));
    let waiting = rig.begin(&login("alice", 1));
    while !waiting.is_finished() {
        sleep(SECOND / 10).await;
        rig.authorizer.invalidate_all();
    }
    assert_eq!(waiting.await.unwrap().source, Source::FailClose);
    assert_eq!(rig.calls(), 3);
    assert_eq!(rig.authorizer.stats().questions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_deny_that_was_overtaken_keeps_her_out_unless_a_later_answer_lets_her_in() {
    let open = Settings {
        fail_mode: FailMode::Open,
        ..SETTINGS
    };
    for (then, expected) in [
        (slowly(deny(), SECOND / 2), (false, Source::Portal)),
        (Does::IsGone, (false, Source::Portal)),
        (slowly(allow(), SECOND / 10), (true, Source::Portal)),
    ] {
        let rig = Rig::new(open);
        rig.source_does(slowly(deny(), SECOND / 2));
        let waiting = rig.begin(&login("alice", 1));
        settle().await;
        rig.authorizer.invalidate_all();
        rig.source_does(then.clone());
        while matches!(then, Does::Says { ref verdict, .. } if !verdict.is_allow()) && !waiting.is_finished()
        {
            sleep(SECOND / 10).await;
            rig.authorizer.invalidate_all();
        }
        let decision = waiting.await.unwrap();
        assert_eq!(
            (decision.verdict.is_allow(), decision.source),
            expected,
            "{then:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_without_time_to_ask_is_no_outage() {
    for fail_mode in FailMode::ALL {
        let rig = Rig::new(Settings {
            fail_mode,
            ..SETTINGS
        });
        let alice = login("alice", 1);
        rig.decide(&alice).await;
        sleep(400 * SECOND).await;
        rig.source_does(says(deny()));
        // The portal answers, and it says no: neither an old yes nor the fail mode lets her in.
        for who in [&alice, &login("bob", 1)] {
            let hurried = Instant::now() + SETTINGS.margin;
            let decision = rig.authorizer.decide(who, hurried).await;
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
fn a_runtime_that_goes_down_under_a_login_leaves_no_lock_taken() {
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
        let mut deciding = std::pin::pin!(rig.decide(&alice));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        // That there is no timer any more is tokio's to complain about.
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _decision = deciding.as_mut().poll(&mut context);
        }));
        drop(polled);
        done.send(rig.authorizer.stats().questions).unwrap();
    });
    assert_eq!(ended.recv_timeout(30 * SECOND), Ok(0));
    login.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_portal_sets_the_time_of_each_decision() {
    let rig = Rig::new(SETTINGS);
    let alice = login("alice", 1);
    let with_ttl = |seconds| Does::Says {
        verdict: allow(),
        ttl: Some(Duration::from_secs(seconds)),
        after: Duration::ZERO,
    };
    rig.source_does(with_ttl(60));
    rig.decide(&alice).await;
    sleep(59 * SECOND).await;
    assert_eq!(rig.outcome(&alice).await, (true, Source::Cache));
    sleep(SECOND).await;
    rig.source_does(with_ttl(0));
    // The refresh in the last fifth asked too, at second 59.
    rig.authorizer.invalidate_all();
    for _ in 0..3 {
        assert_eq!(rig.outcome(&alice).await, (true, Source::Portal));
    }
    rig.source_does(Does::IsGone);
    assert_eq!(
        rig.outcome(&alice).await,
        (false, Source::FailClose),
        "what is not to be kept is not remembered"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_near_its_end_is_served_and_refreshed_once_in_the_background() {
    let rig = Rig::new(SETTINGS);
    let alice = login("alice", 1);
    rig.decide(&alice).await;
    sleep(250 * SECOND).await;
    rig.source_does(slowly(deny(), SECOND));
    let begin = Instant::now();
    for _ in 0..10 {
        assert_eq!(rig.outcome(&alice).await, (true, Source::Cache));
    }
    assert_eq!(begin.elapsed(), Duration::ZERO, "nobody waits for the refresh");
    sleep(2 * SECOND).await;
    assert_eq!(rig.outcome(&alice).await, (false, Source::Cache));
    assert_eq!(rig.calls(), 2);
    // A refresh that fails is not repeated, and ends nothing early.
    let bob = login("bob", 1);
    rig.source_does(says(allow()));
    rig.decide(&bob).await;
    sleep(250 * SECOND).await;
    rig.source_does(Does::IsGone);
    let calls = rig.calls();
    for _ in 0..10 {
        assert_eq!(rig.outcome(&bob).await, (true, Source::Cache));
        settle().await;
    }
    assert_eq!(rig.calls() - calls, 1);
}

#[tokio::test(start_paused = true)]
async fn questions_are_bounded() {
    let rig = Rig::new(Settings {
        max_questions: 3,
        ..SETTINGS
    });
    rig.source_does(Does::Hangs);
    let logins: Vec<_> = (1..=10).map(|host| rig.begin(&login("alice", host))).collect();
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
    assert_eq!((stats.questions, stats.breaker.failures), (0, 3));
    // Questions that an invalidation cut off from new logins still count.
    rig.authorizer.reset_breaker();
    let before: Vec<_> = (1..=3).map(|host| rig.begin(&login("alice", host))).collect();
    settle().await;
    rig.authorizer.invalidate_all();
    assert_eq!(rig.outcome(&login("alice", 1)).await, (false, Source::FailClose));
    assert_eq!(rig.calls(), 6);
    drop(before);
}

#[tokio::test(start_paused = true)]
async fn a_lost_question_is_cancelled_for_the_breaker_and_leaves_nothing_behind() {
    let rig = Rig::new(Settings {
        breaker: BreakerSettings {
            failure_threshold: 1,
            ..SETTINGS.breaker
        },
        ..SETTINGS
    });
    rig.source_does(Does::Panics);
    rig.decide(&login("alice", 1)).await;
    rig.source_does(Does::Hangs);
    let waiting = rig.begin(&login("alice", 1));
    settle().await;
    rig.stop.cancel();
    assert_eq!(waiting.await.unwrap().source, Source::FailClose);
    let stats = rig.authorizer.stats();
    assert_eq!(
        (stats.breaker.cancelled, stats.breaker_state, stats.questions),
        (2, BreakerState::Closed, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn rate_limits_refuse_with_their_own_code_before_anything_is_asked() {
    let rate = |burst| {
        Some(Rate {
            burst: NonZeroU32::new(burst).unwrap(),
            interval: SECOND,
        })
    };
    for (per_user, per_address) in [(rate(2), None), (None, rate(2)), (rate(2), rate(9))] {
        let rig = Rig::new(Settings {
            rates: RateLimits {
                per_user,
                per_address,
                max_keys: 100,
            },
            ..SETTINGS
        });
        let mut refused = 0;
        for _ in 0..10 {
            match rig.decide(&login("alice", 1)).await.verdict {
                Verdict::Deny(refusal) => refused += usize::from(refusal.code == DenyCode::RateLimited),
                Verdict::Allow(_) => {}
            }
        }
        assert_eq!((refused, rig.calls()), (8, 1));
        assert!(
            rig.decide(&login("bob", 2)).await.verdict.is_allow(),
            "others go on"
        );
        sleep(SECOND).await;
        assert!(rig.decide(&login("alice", 1)).await.verdict.is_allow());
    }
}

#[tokio::test(start_paused = true)]
async fn the_embedded_policy_answers_every_login_itself() {
    let rig = Rig::of(
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
    rig.source_does(says(deny()));
    assert_eq!(rig.outcome(&login("alice", 1)).await, (false, Source::Embedded));
    for does in [Does::IsGone, Does::Hangs] {
        rig.source_does(does);
        assert_eq!(rig.outcome(&login("alice", 1)).await, (false, Source::FailClose));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_thousand_decisions_are_there_for_the_operator() {
    let rig = Rig::new(SETTINGS);
    for host in 0..5 {
        for _ in 0..250 {
            rig.decide(&login("alice", host)).await;
        }
    }
    rig.source_does(Does::IsGone);
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
