//! A day of outages against a reference that is told in the plainest way.

use std::collections::HashMap;

use super::*;
use resilience::{BreakerState, CacheKey};

/// What the portal says and keeps on saying until it changes its mind.
#[derive(Debug, Clone)]
struct Policy {
    verdict: Verdict,
    ttl: Option<Duration>,
}

/// How the portal is at the moment.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Portal {
    Up,
    Gone,
    Hanging,
}

/// What must happen, with every time in seconds since the beginning.
struct Reference {
    mode: FailMode,
    /// Verdict, second of the question, TTL, refreshed.
    known: HashMap<CacheKey, (Verdict, u64, u64, bool)>,
    /// Who was thrown out at which second, and was not let in since.
    revoked: HashMap<Username, u64>,
    failures: Vec<u64>,
    open_since: Option<u64>,
}

impl Reference {
    /// Asks the portal, if the breaker lets us; says what it answered.
    fn ask(&mut self, key: &CacheKey, now: u64, portal: Portal, policy: &Policy) -> Option<Verdict> {
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
                0 if policy.verdict.is_allow() => drop(self.known.remove(key)),
                ttl => drop(
                    self.known
                        .insert(key.clone(), (policy.verdict.clone(), now, ttl, false)),
                ),
            }
            if policy.verdict.is_allow() {
                self.revoked.remove(&key.username);
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

    /// What the login at second `now` must get: the verdict, the source, and how long it waits for it.
    fn decide(&mut self, key: &CacheKey, now: u64, portal: Portal, policy: &Policy) -> (bool, Source, u64) {
        if let Some((verdict, asked, ttl, refreshed)) = self.known.get_mut(key)
            && now - *asked < *ttl
        {
            let decided = (verdict.is_allow(), Source::Cache, 0);
            if (now - *asked) * 5 >= *ttl * 4 && !std::mem::replace(refreshed, true) {
                self.ask(key, now, portal, policy);
            }
            return decided;
        }
        let closed = self.open_since.is_none_or(|since| now - since >= 30);
        if let Some(verdict) = self.ask(key, now, portal, policy) {
            return (verdict.is_allow(), Source::Portal, 0);
        }
        let waited = if closed && portal == Portal::Hanging { 2 } else { 0 };
        let remembered = self
            .known
            .get(key)
            .filter(|(verdict, asked, ..)| !verdict.is_allow() || now + waited - asked < 1_800);
        let is_out = |since: &u64| now + waited - since < 1_800;
        let thrown_out = self.revoked.get(&key.username).is_some_and(is_out);
        let (allowed, source) = match (self.mode, remembered) {
            (FailMode::Open | FailMode::Stale, None) if thrown_out => (false, Source::Stale),
            (FailMode::Close, _) | (FailMode::Stale, None) => (false, Source::FailClose),
            (FailMode::Open | FailMode::Stale, Some((verdict, ..))) => (verdict.is_allow(), Source::Stale),
            (FailMode::Open, None) => (true, Source::FailOpen),
        };
        (allowed, source, waited)
    }
}

async fn live_through_a_day(mode: FailMode, seed: u64) -> HashMap<(bool, Source), usize> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let rig = Rig::new(Settings {
        fail_mode: mode,
        ..SETTINGS
    });
    let mut reference = Reference {
        mode,
        known: HashMap::new(),
        revoked: HashMap::new(),
        failures: Vec::new(),
        open_since: None,
    };
    let (begin, mut portal, mut until) = (Instant::now(), Portal::Up, 600);
    let mut policies: Vec<Policy> = (0..20)
        .map(|_| Policy {
            verdict: allow(),
            ttl: None,
        })
        .collect();
    let mut got = HashMap::new();
    loop {
        // Whole seconds, and far enough apart that one login is over before the next one comes.
        sleep(Duration::from_secs(dice.u64(0..12))).await;
        let now = begin.elapsed().as_secs();
        if now >= 86_400 {
            return got;
        }
        if now >= until {
            portal = [Portal::Up, Portal::Up, Portal::Gone, Portal::Hanging][dice.usize(..4)];
            // Short flaps and long outages.
            until = now
                + if dice.bool() {
                    dice.u64(5..90)
                } else {
                    dice.u64(600..5_400)
                };
        }
        let who = dice.usize(..policies.len());
        if dice.u8(..100) == 0 {
            let verdict = if dice.bool() { allow() } else { deny() };
            policies[who] = Policy {
                verdict,
                ttl: [None, None, Some(0), Some(120)][dice.usize(..4)].map(Duration::from_secs),
            };
        }
        let login = login(&format!("user{who}"), dice.u8(1..3));
        if dice.u8(..200) == 0 {
            rig.authorizer.revoke_user(&login.username, "");
            reference.known.retain(|key, (verdict, _, ttl, _)| {
                let hers = key.username == login.username;
                *ttl = if hers { 0 } else { *ttl };
                !hers || !verdict.is_allow()
            });
            reference.revoked.insert(login.username.clone(), now);
        }
        let Policy { verdict, ttl } = policies[who].clone();
        rig.source_does(match portal {
            Portal::Up => Does::Says {
                verdict,
                ttl,
                after: Duration::ZERO,
            },
            Portal::Gone => Does::IsGone,
            Portal::Hanging => Does::Hangs,
        });
        let (allowed, source, waits) = reference.decide(&CacheKey::from(&login), now, portal, &policies[who]);
        let asked = Instant::now();
        let outcome = rig.outcome(&login).await;
        assert_eq!(
            outcome,
            (allowed, source),
            "seed {seed}, mode {mode}, second {now}, portal {portal:?}, {login:?}"
        );
        assert_eq!(
            asked.elapsed().as_secs(),
            waits,
            "seed {seed}, mode {mode}, second {now}"
        );
        // Once a refresh in the background has ended, too, the breaker stands where the reference has it.
        sleep(Duration::from_secs(3).saturating_sub(asked.elapsed())).await;
        let open = rig.authorizer.stats().breaker_state == BreakerState::Open;
        assert_eq!(
            open,
            reference.open_since.is_some(),
            "seed {seed}, mode {mode}, second {now}"
        );
        *got.entry(outcome).or_default() += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_of_outages_gives_every_login_what_it_must_get() {
    for (seed, mode) in [
        (1, FailMode::Stale),
        (2, FailMode::Open),
        (3, FailMode::Close),
        (4, FailMode::Stale),
    ] {
        let got = live_through_a_day(mode, seed).await;
        // The day had something of everything, or it shows nothing.
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
                got.get(outcome).is_some_and(|times| *times > 20),
                "{mode}: too few {outcome:?} in {got:?}"
            );
        }
    }
}
