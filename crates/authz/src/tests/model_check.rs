//! Checks the pipeline against a reference model over a simulated day of outages.

use std::collections::HashMap;

use super::*;
use resilience::{BreakerState, CacheKey};

/// The portal's policy for a user, until it changes.
#[derive(Debug, Clone)]
struct Policy {
    verdict: Verdict,
    ttl: Option<Duration>,
}

/// The state of the portal.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Portal {
    Up,
    Unreachable,
    Hanging,
}

/// The pipeline in its simplest form, with every time in seconds since the start.
struct Reference {
    mode: FailMode,
    /// Verdict, second of the query, TTL, refreshed.
    cached: HashMap<CacheKey, (Verdict, u64, u64, bool)>,
    /// When each user was denied or revoked last, and whether one was a deny; an allow removes the
    /// user.
    denied: HashMap<Username, (u64, bool)>,
    failures: Vec<u64>,
    open_since: Option<u64>,
}

impl Reference {
    /// Queries the portal, if the breaker admits it; returns its answer.
    fn query(&mut self, key: &CacheKey, now: u64, portal: Portal, policy: &Policy) -> Option<Verdict> {
        if self.open_since.is_some_and(|since| now - since < 30) {
            return None;
        }
        let probe = self.open_since.take().is_some();
        if portal == Portal::Up {
            if probe {
                self.failures.clear();
            }
            let default = if policy.verdict.is_allow() { 300 } else { 30 };
            match policy.ttl.map_or(default, |ttl| ttl.as_secs()) {
                0 if policy.verdict.is_allow() => drop(self.cached.remove(key)),
                ttl => drop(
                    self.cached
                        .insert(key.clone(), (policy.verdict.clone(), now, ttl, false)),
                ),
            }
            if policy.verdict.is_allow() {
                self.denied.remove(&key.username);
            } else {
                self.denied.insert(key.username.clone(), (now, true));
            }
            return Some(policy.verdict.clone());
        }
        let failed = if portal == Portal::Hanging { now + 2 } else { now };
        self.failures.push(failed);
        if probe || self.failures.iter().filter(|at| failed - **at < 60).count() >= 5 {
            self.open_since = Some(failed);
            self.failures.clear();
        }
        None
    }

    /// Decides a login at second `now`: whether it is allowed, the source, and how long it waits.
    fn decide(&mut self, key: &CacheKey, now: u64, portal: Portal, policy: &Policy) -> (bool, Source, u64) {
        if let Some((verdict, asked, ttl, refreshed)) = self.cached.get_mut(key)
            && now - *asked < *ttl
        {
            let decided = (verdict.is_allow(), Source::Cache, 0);
            if (now - *asked) * 5 >= *ttl * 4 && !std::mem::replace(refreshed, true) {
                self.query(key, now, portal, policy);
            }
            return decided;
        }
        let closed = self.open_since.is_none_or(|since| now - since >= 30);
        if let Some(verdict) = self.query(key, now, portal, policy) {
            return (verdict.is_allow(), Source::Portal, 0);
        }
        let waited = if closed && portal == Portal::Hanging { 2 } else { 0 };
        let stale = self
            .cached
            .get(key)
            .filter(|(verdict, asked, ..)| !verdict.is_allow() || now + waited - asked < 1_800);
        let is_current = |(since, by_deny): &(u64, bool)| *by_deny || now + waited - since < 1_800;
        let denied = self.denied.get(&key.username).is_some_and(is_current);
        let (allowed, source) = match (self.mode, stale) {
            (FailMode::Open | FailMode::Stale, None) if denied => (false, Source::Stale),
            (FailMode::Close, _) | (FailMode::Stale, None) => (false, Source::FailClose),
            (FailMode::Open | FailMode::Stale, Some((verdict, ..))) => (verdict.is_allow(), Source::Stale),
            (FailMode::Open, None) => (true, Source::FailOpen),
        };
        (allowed, source, waited)
    }
}

async fn simulate_a_day(mode: FailMode, seed: u64) -> HashMap<(bool, Source), usize> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let rig = Rig::new(Settings {
        fail_mode: mode,
        ..SETTINGS
    });
    let mut reference = Reference {
        mode,
        cached: HashMap::new(),
        denied: HashMap::new(),
        failures: Vec::new(),
        open_since: None,
    };
    let (start, mut portal, mut until) = (Instant::now(), Portal::Up, 600);
    let mut policies: Vec<Policy> = (0..20)
        .map(|_| Policy {
            verdict: allow(),
            ttl: None,
        })
        .collect();
    let mut outcomes = HashMap::new();
    loop {
        // Whole seconds, and far enough apart that one login ends before the next one.
        sleep(Duration::from_secs(rng.u64(0..12))).await;
        let now = start.elapsed().as_secs();
        if now >= 86_400 {
            return outcomes;
        }
        if now >= until {
            portal = [Portal::Up, Portal::Up, Portal::Unreachable, Portal::Hanging][rng.usize(..4)];
            // Short and long outages.
            until = now
                + if rng.bool() {
                    rng.u64(5..90)
                } else {
                    rng.u64(600..5_400)
                };
        }
        let user = rng.usize(..policies.len());
        if rng.u8(..100) == 0 {
            let verdict = if rng.bool() { allow() } else { deny() };
            policies[user] = Policy {
                verdict,
                ttl: [None, None, Some(0), Some(120)][rng.usize(..4)].map(Duration::from_secs),
            };
        }
        let login = login(&format!("user{user}"), rng.u8(1..3));
        if rng.u8(..200) == 0 {
            rig.authorizer.revoke_user(&login.username, "");
            reference.cached.retain(|key, (verdict, _, ttl, _)| {
                let of_user = key.username == login.username;
                *ttl = if of_user { 0 } else { *ttl };
                !of_user || !verdict.is_allow()
            });
            let denied = reference.denied.entry(login.username.clone()).or_default();
            denied.0 = now;
        }
        let Policy { verdict, ttl } = policies[user].clone();
        rig.set_source(match portal {
            Portal::Up => SourceBehaviour::Answers {
                verdict,
                ttl,
                after: Duration::ZERO,
            },
            Portal::Unreachable => SourceBehaviour::Unreachable,
            Portal::Hanging => SourceBehaviour::Hangs,
        });
        let (allowed, source, waits) =
            reference.decide(&CacheKey::from(&login), now, portal, &policies[user]);
        let started = Instant::now();
        let outcome = rig.outcome(&login).await;
        assert_eq!(
            outcome,
            (allowed, source),
            "seed {seed}, mode {mode}, second {now}, portal {portal:?}, {login:?}"
        );
        assert_eq!(
            started.elapsed().as_secs(),
            waits,
            "seed {seed}, mode {mode}, second {now}"
        );
        // Once a refresh in the background has ended too, both breakers are in the same state.
        sleep(Duration::from_secs(3).saturating_sub(started.elapsed())).await;
        let open = rig.authorizer.stats().breaker_state == BreakerState::Open;
        assert_eq!(
            open,
            reference.open_since.is_some(),
            "seed {seed}, mode {mode}, second {now}"
        );
        *outcomes.entry(outcome).or_default() += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn every_login_is_decided_as_by_the_reference_model() {
    for (seed, mode) in [
        (1, FailMode::Stale),
        (2, FailMode::Open),
        (3, FailMode::Close),
        (4, FailMode::Stale),
    ] {
        let outcomes = simulate_a_day(mode, seed).await;
        // Every outcome occurred often enough to show something.
        let all: &[(bool, Source)] = match mode {
            FailMode::Stale => &[
                (true, Source::Stale),
                (false, Source::Stale),
                (false, Source::FailClose),
            ],
            FailMode::Open => &[
                (true, Source::Stale),
                (false, Source::Stale),
                (true, Source::FailOpen),
            ],
            FailMode::Close => &[(false, Source::FailClose)],
        };
        let always = [
            (true, Source::Cache),
            (false, Source::Cache),
            (true, Source::Portal),
            (false, Source::Portal),
        ];
        for outcome in all.iter().chain(&always) {
            assert!(
                outcomes.get(outcome).is_some_and(|times| *times > 20),
                "{mode}: too few {outcome:?} in {outcomes:?}"
            );
        }
    }
}
