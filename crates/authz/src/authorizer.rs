//! The decision pipeline and what it shares with its queries.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ocserv_agent_model::{Decision, Login, Username};
use resilience::{
    BreakerState, BreakerStats, Cache, CacheKey, CacheStats, ChangeCollector, Changes, FailMode, RateLimiter,
    Records, SharedBreaker, Transition,
};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::in_flight::InFlightQueries;
use crate::observer::{DecisionRecord, Observation, Observer, RecentDecisions};
use crate::settings::{RateLimits, Settings};
use crate::source::PolicySource;
use crate::switches::{ActiveSwitches, Switches};

mod decide;
mod failures;
mod query;

use failures::Failures;

/// Decides logins; clones are the same pipeline.
#[derive(Clone)]
pub struct Authorizer(Arc<Inner>);

/// What a pipeline needs.
pub struct Dependencies {
    /// The policy source.
    pub source: Arc<dyn PolicySource>,
    /// The clock.
    pub clock: Clock,
    /// Receives what the pipeline reports.
    pub observer: Observer,
    /// Tracks the queries in flight, which outlive the login that started them.
    pub tasks: TaskTracker,
    /// Cancels the queries in flight. Cancel it only when no login is in progress.
    pub stop: CancellationToken,
}

struct Inner {
    dependencies: Dependencies,
    breaker: SharedBreaker,
    state: Mutex<State>,
    changed: Notify,
    /// Whether the records of an earlier process are being read.
    is_restoring: watch::Sender<bool>,
}

struct State {
    settings: Settings,
    switches: Switches,
    cache: Cache,
    queries: InFlightQueries,
    per_user: Option<RateLimiter<Username>>,
    per_address: Option<RateLimiter<IpAddr>>,
    recent: RecentDecisions,
    failures: Failures,
}

/// Counters since the pipeline was created, and its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorizerStats {
    /// The cache.
    pub cache: CacheStats,
    /// The breaker.
    pub breaker: BreakerStats,
    /// The breaker's state.
    pub breaker_state: BreakerState,
    /// Queries to the source in flight.
    pub queries: usize,
}

impl Authorizer {
    /// Creates a pipeline with an empty cache.
    #[must_use]
    pub fn new(dependencies: Dependencies, settings: Settings) -> Self {
        let state = State {
            settings,
            switches: Switches::default(),
            cache: Cache::new(settings.cache),
            queries: InFlightQueries::default(),
            per_user: limiter(settings.rates.per_user, settings.rates),
            per_address: limiter(settings.rates.per_address, settings.rates),
            recent: RecentDecisions::default(),
            failures: Failures::default(),
        };
        let breaker = SharedBreaker::new(settings.breaker);
        Self(Arc::new(Inner {
            dependencies,
            breaker,
            state: Mutex::new(state),
            changed: Notify::new(),
            is_restoring: watch::Sender::new(false),
        }))
    }

    /// Decides `login` before `deadline`. Never fails: in an outage the fail mode decides.
    ///
    /// Dropping the future is safe at any point. A query that it started continues for the other
    /// logins that wait for it, and its answer is cached.
    pub async fn decide(&self, login: &Login, deadline: Instant) -> Decision {
        let started = self.0.dependencies.clock.now();
        self.0.decide(login, deadline, started).await
    }

    /// Revokes `user`, see [`Cache::revoke_user`]; a login of the user that waits for an answer
    /// queries the source again.
    ///
    /// Returns the allowed logins of the user among the last 1,000 decisions, whose sessions may
    /// not be connected yet. Every later login is decided after the revocation.
    pub fn revoke_user(&self, user: &Username, reason: &str) -> Vec<Arc<DecisionRecord>> {
        let now = self.0.dependencies.clock.now();
        let mut state = self.0.lock();
        state.queries.close(user);
        state.cache.revoke_user(user, reason, now);
        let allowed = state.recent.allowed(user);
        drop(state);
        self.0.changed.notify_one();
        allowed
    }

    /// Drops the decisions about `user` without denying anyone, see [`Cache::invalidate_user`]; a
    /// login of the user that waits for an answer queries the source again. Returns how many there
    /// were.
    pub fn invalidate_user(&self, user: &Username) -> usize {
        let mut state = self.0.lock();
        state.queries.close(user);
        let answers = state.cache.invalidate_user(user);
        drop(state);
        self.0.changed.notify_one();
        answers
    }

    /// Drops the decisions about all users, as [`Self::invalidate_user`] does about one. Logins are
    /// decided meanwhile: the decisions are dropped a few at a time.
    pub fn invalidate_all(&self) -> usize {
        let mut state = self.0.lock();
        state.queries.close_all();
        state.cache.invalidate_all();
        drop(state);
        let (mut answers, mut user) = (0, None);
        loop {
            let (dropped, last) = self.0.lock().cache.drop_invalidated(user.as_ref());
            answers += dropped;
            user = last;
            if user.is_none() {
                break;
            }
            std::thread::yield_now();
        }
        self.0.changed.notify_one();
        answers
    }

    /// Decides by `mode` for this time in place of the configured fail mode; `None` ends that.
    pub fn switch_fail_mode(&self, switch: Option<(FailMode, Duration)>) {
        let now = self.0.dependencies.clock.now();
        self.0.lock().switches.set_fail_mode(switch, now);
    }

    /// For this time, has every login asked about, or denied where the source gives no answer;
    /// `None` ends that.
    pub fn force_online(&self, duration: Option<Duration>) {
        let now = self.0.dependencies.clock.now();
        self.0.lock().switches.set_force_online(duration, now);
    }

    /// Returns the switches that hold now.
    #[must_use]
    pub fn switches(&self) -> ActiveSwitches {
        let now = self.0.dependencies.clock.now();
        self.0.lock().switches.active(now)
    }

    /// Replaces the settings. Rate limits that change start with full buckets.
    pub fn configure(&self, settings: Settings) {
        let mut state = self.0.lock();
        let rates = settings.rates;
        if rates != state.settings.rates {
            state.per_user = limiter(rates.per_user, rates);
            state.per_address = limiter(rates.per_address, rates);
        }
        state.cache.configure(settings.cache);
        state.settings = settings;
        drop(state);
        self.0.breaker.configure(settings.breaker);
        self.0.changed.notify_one();
    }

    /// Announces that [`Self::restore`] will be called. Until then a login without an answer waits
    /// for it, within its deadline, and no fail mode allows one without a cached allow.
    pub fn await_restore(&self) {
        self.0.lock().cache.set_lacks_records(true);
        self.0.is_restoring.send_replace(true);
    }

    /// Ends the wait of logins for [`Self::restore`], which may still be called later.
    pub fn end_wait_for_restore(&self) {
        self.0.is_restoring.send_replace(false);
    }

    /// Restores the records of an earlier process; see [`Cache::restore`]. When they are not
    /// `complete`, no fail mode allows a login without a cached allow from then on.
    pub fn restore(&self, records: Records, complete: bool) -> usize {
        let now = self.0.dependencies.clock.now();
        let mut state = self.0.lock();
        let restored = state.cache.restore(records, now);
        state.cache.set_lacks_records(!complete);
        drop(state);
        self.0.changed.notify_one();
        self.end_wait_for_restore();
        restored
    }

    /// Whether the deny of a login with `key` still stands, see [`Cache::deny_stands`].
    #[must_use]
    pub fn deny_stands(&self, key: &CacheKey) -> bool {
        self.0.lock().cache.deny_stands(key)
    }

    /// Waits until [`Self::take_changes`] may have something to return. For one waiter.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Returns what changed in the cache since this was last called. Logins are decided meanwhile:
    /// the entries are copied a few at a time.
    #[must_use]
    pub fn take_changes(&self) -> Changes {
        let mut collector = ChangeCollector::default();
        while self.0.lock().cache.collect(&mut collector) {
            std::thread::yield_now();
        }
        collector.finish()
    }

    /// Removes some of what can decide no login any more, see [`Cache::sweep`].
    pub fn sweep(&self) -> bool {
        let now = self.0.dependencies.clock.now();
        let has_more = self.0.lock().cache.sweep(now);
        self.0.changed.notify_one();
        has_more
    }

    /// See [`Cache::mark_all_changed`].
    pub fn mark_all_changed(&self) {
        self.0.lock().cache.mark_all_changed();
    }

    /// Returns the last decisions, at most 1,000, newest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Arc<DecisionRecord>> {
        self.0.lock().recent.list()
    }

    /// Returns counters and state.
    #[must_use]
    pub fn stats(&self) -> AuthorizerStats {
        let state = self.0.lock();
        let (cache, queries) = (state.cache.stats(), state.queries.count());
        drop(state);
        AuthorizerStats {
            cache,
            queries,
            breaker: self.0.breaker.stats(),
            breaker_state: self.0.breaker.state(),
        }
    }
}

impl Inner {
    fn report_transition(&self, transition: Option<Transition>) {
        if let Some(transition) = transition {
            self.dependencies
                .observer
                .report(Observation::Breaker(transition));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under this lock, so a panic cannot leave half a change behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limiter<K: std::hash::Hash + Eq + Clone>(
    rate: Option<resilience::Rate>,
    limits: RateLimits,
) -> Option<RateLimiter<K>> {
    rate.map(|rate| RateLimiter::new(rate, limits.max_keys))
}
