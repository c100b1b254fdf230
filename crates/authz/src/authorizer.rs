//! How a login is decided.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ocserv_agent_model::{Decision, Login, Username};
use resilience::{
    BreakerState, BreakerStats, Cache, CacheStats, Changes, RateLimiter, Records, SharedBreaker, Transition,
};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::flight::Flights;
use crate::observe::{DecisionRecord, Observation, Observer, Recent};
use crate::settings::{RateLimits, Settings};
use crate::source::PolicySource;

mod ask;
mod steps;

/// Decides logins. Its clones are the same pipeline.
#[derive(Clone)]
pub struct Authorizer(Arc<Inner>);

/// What a pipeline is made of.
pub struct Parts {
    /// Who knows the policy.
    pub source: Arc<dyn PolicySource>,
    /// The clock.
    pub clock: Clock,
    /// Who is told what happens.
    pub observer: Observer,
    /// Owns the questions under way: they outlive the login that asked first.
    pub tasks: TaskTracker,
    /// Ends the questions under way. Cancel it when no login waits any more.
    pub stop: CancellationToken,
}

struct Inner {
    parts: Parts,
    breaker: SharedBreaker,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    settings: Settings,
    cache: Cache,
    flights: Flights,
    per_user: Option<RateLimiter<Username>>,
    per_address: Option<RateLimiter<IpAddr>>,
    recent: Recent,
}

/// What a pipeline counted since it was made, and how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// The cache.
    pub cache: CacheStats,
    /// The breaker.
    pub breaker: BreakerStats,
    /// The breaker's state.
    pub breaker_state: BreakerState,
    /// Questions to the source that are under way.
    pub questions: usize,
}

impl Authorizer {
    /// A pipeline that knows no decision yet.
    #[must_use]
    pub fn new(parts: Parts, settings: Settings) -> Self {
        let state = State {
            settings,
            cache: Cache::new(settings.cache),
            flights: Flights::default(),
            per_user: limiter(settings.rates.per_user, settings.rates),
            per_address: limiter(settings.rates.per_address, settings.rates),
            recent: Recent::default(),
        };
        let breaker = SharedBreaker::new(settings.breaker);
        Self(Arc::new(Inner {
            parts,
            breaker,
            state: Mutex::new(state),
            changed: Notify::new(),
        }))
    }

    /// Decides `login` before `deadline`. Never fails: an outage is a decision too, by the fail mode.
    ///
    /// Dropping the future is safe at any point. A question that it began goes on for the others who wait for it, and
    /// its answer is kept.
    pub async fn decide(&self, login: &Login, deadline: Instant) -> Decision {
        let begin = self.0.parts.clock.now();
        self.0.decide(login, deadline, begin).await
    }

    /// Throws `user` out, for this reason: her next login is decided anew, and an outage keeps her out until the source
    /// has let her in again; see [`Cache::revoke_user`]. A login of hers that waits for an answer now asks again.
    ///
    /// Gives those of her logins that were let in before, as far as they are among the last 1,000 decisions: their answer
    /// may still be on its way to ocserv. Whatever is let in later was decided anew.
    pub fn revoke_user(&self, user: &Username, reason: &str) -> Vec<Arc<DecisionRecord>> {
        let now = self.0.parts.clock.now();
        let mut state = self.0.lock();
        state.flights.close(Some(user));
        state.cache.revoke_user(user, reason, now);
        let let_in = state.recent.let_in(user);
        drop(state);
        self.0.changed.notify_one();
        let_in
    }

    /// Drops every decision that is known; says how many there were.
    pub fn invalidate_all(&self) -> usize {
        let mut state = self.0.lock();
        state.flights.close(None);
        let dropped = state.cache.invalidate_all();
        drop(state);
        self.0.changed.notify_one();
        dropped
    }

    /// Takes new settings. Rate limits that change begin anew.
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

    /// Closes the breaker: the next login asks the source, whatever happened before.
    pub fn reset_breaker(&self) {
        let transition = self.0.breaker.reset();
        self.0.tell(transition);
    }

    /// Puts back what an earlier process knew; see [`Cache::restore`].
    pub fn restore(&self, records: Records) -> usize {
        let now = self.0.parts.clock.now();
        let restored = self.0.lock().cache.restore(records, now);
        self.0.changed.notify_one();
        restored
    }

    /// Waits until [`Self::take_changes`] may have something new to give. For one waiter.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// What changed in the cache since the last time this was asked.
    #[must_use]
    pub fn take_changes(&self) -> Changes {
        self.0.lock().cache.take_changes()
    }

    /// What [`Self::take_changes`] gave was not written: it gives everything the next time.
    pub fn mark_all_changed(&self) {
        self.0.lock().cache.mark_all_changed();
    }

    /// The last decisions, at most 1,000, the last one first.
    #[must_use]
    pub fn recent(&self) -> Vec<Arc<DecisionRecord>> {
        self.0.lock().recent.list()
    }

    /// How the pipeline stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = self.0.lock();
        let (cache, questions) = (state.cache.stats(), state.flights.under_way());
        drop(state);
        Stats {
            cache,
            questions,
            breaker: self.0.breaker.stats(),
            breaker_state: self.0.breaker.state(),
        }
    }
}

impl Inner {
    fn tell(&self, transition: Option<Transition>) {
        if let Some(transition) = transition {
            self.parts.observer.tell(Observation::Breaker(transition));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock runs foreign code, so a panic cannot leave half a change behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limiter<K: std::hash::Hash + Eq + Clone>(
    rate: Option<resilience::Rate>,
    limits: RateLimits,
) -> Option<RateLimiter<K>> {
    rate.map(|rate| RateLimiter::new(rate, limits.max_keys))
}
