//! Tests of the rate limits.

use std::num::NonZeroU32;

use super::*;
use resilience::Rate;

#[tokio::test(start_paused = true)]
async fn rate_limits_deny_with_their_own_code_before_the_source_is_queried() {
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
        let mut denied = 0;
        for _ in 0..10 {
            match rig.decide(&login("alice", 1)).await.verdict {
                Verdict::Deny(denial) => denied += usize::from(denial.code == DenyCode::RateLimited),
                Verdict::Allow(_) => {}
            }
        }
        assert_eq!((denied, rig.calls()), (8, 1));
        assert!(
            rig.decide(&login("bob", 2)).await.verdict.is_allow(),
            "other users are not limited"
        );
        sleep(SECOND).await;
        assert!(rig.decide(&login("alice", 1)).await.verdict.is_allow());
    }
}

#[tokio::test(start_paused = true)]
async fn an_ipv6_client_is_limited_by_its_network_whatever_address_it_chooses() {
    let rate = Rate {
        burst: NonZeroU32::new(2).unwrap(),
        interval: SECOND,
    };
    let rig = Rig::new(Settings {
        rates: RateLimits {
            per_user: None,
            per_address: Some(rate),
            max_keys: 100,
        },
        ..SETTINGS
    });
    let from = |address: &str| Login {
        client_ip: address.parse().unwrap(),
        ..login("alice", 1)
    };
    let mut allowed = Vec::new();
    for address in [
        "2001:db8::1",
        "2001:db8::ffff:0:0:2",
        "2001:db8::3",
        "2001:db8:0:1::1",
        "192.0.2.1",
        "192.0.2.1",
        "192.0.2.2",
        "::ffff:192.0.2.1",
    ] {
        allowed.push(rig.decide(&from(address)).await.verdict.is_allow());
    }
    assert_eq!(allowed, [true, true, false, true, true, true, true, false]);
}

#[tokio::test(start_paused = true)]
async fn new_settings_keep_the_buckets_of_a_rate_limit_that_they_do_not_change() {
    let limited = |burst| Settings {
        rates: RateLimits {
            per_user: Some(Rate {
                burst: NonZeroU32::new(burst).unwrap(),
                interval: 60 * SECOND,
            }),
            ..SETTINGS.rates
        },
        ..SETTINGS
    };
    let rig = Rig::new(limited(1));
    let is_allowed = async || rig.decide(&login("alice", 1)).await.verdict.is_allow();
    assert_eq!((is_allowed().await, is_allowed().await), (true, false));
    rig.authorizer.configure(Settings {
        fail_mode: FailMode::Open,
        ..limited(1)
    });
    assert!(!is_allowed().await, "the bucket is still empty");
    rig.authorizer.configure(limited(2));
    assert_eq!(
        (is_allowed().await, is_allowed().await, is_allowed().await),
        (true, true, false),
        "a limit that changed starts with a full bucket"
    );
}
