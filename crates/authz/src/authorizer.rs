//! How a login is decided.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Decision, DenyCode, Grant, Login, Source, Username, Verdict};
use resilience::{
    BreakerState, BreakerStats, Cache, CacheKey, CacheStats, Changes, Entry, FailMode, Lookup, Now,
    RateLimiter, Record, SharedBreaker, Transition,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::flight::{Arrival, Flights, Landing};
use crate::observe::{DecisionRecord, Observation, Observer, Recent};
use crate::settings::{RateLimits, Settings};
use crate::source::{PolicySource, SourceError};

mod ask;

/// How often a login asks anew because an invalidation overtook its question.
const ROUNDS: usize = 3;

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

/// Where a login stands after a look at what is known.
enum Seat {
    Decided(Decision),
    Waits(Arrival),
    Outage(&'static str),
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
        let inner = &self.0;
        let begin = inner.parts.clock.now();
        let (mut decision, outage) = inner.decide(login, deadline).await;
        decision.outage = outage;
        let now = inner.parts.clock.now();
        let took = now.mono.saturating_duration_since(begin.mono);
        let record = Arc::new(DecisionRecord::new(login, &decision, now.wall, took));
        inner.lock().recent.note(Arc::clone(&record));
        inner.parts.observer.tell(Observation::Decided(record));
        decision
    }

    /// Drops what is known about `user`, so that her next login is decided anew; says how many decisions went. A login
    /// of hers that waits for an answer now asks again.
    pub fn invalidate_user(&self, user: &Username) -> usize {
        let mut state = self.0.lock();
        state.flights.close(Some(user));
        let dropped = state.cache.invalidate_user(user);
        drop(state);
        self.0.changed.notify_one();
        dropped
    }

    /// Drops everything that is known; says how many decisions went.
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
    pub fn restore(&self, records: Vec<Record>) -> usize {
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
    /// The decision, and why the source did not make it where it was to be asked.
    async fn decide(self: &Arc<Self>, login: &Login, deadline: Instant) -> (Decision, Option<String>) {
        if let Some(refused) = self.limit(login) {
            return (refused, None);
        }
        let patience = deadline
            .checked_sub(self.lock().settings.margin)
            .unwrap_or(deadline);
        if self.parts.source.source() == Source::Embedded {
            return self.decide_here(login, patience).await;
        }
        let key = CacheKey::from(login);
        for _ in 0..ROUNDS {
            let mut arrival = match self.take_seat(&key, login, patience) {
                Seat::Decided(decision) => return (decision, None),
                Seat::Outage(why) => return self.in_outage(&key, why.to_owned()),
                Seat::Waits(arrival) => arrival,
            };
            let landing = match timeout_at(patience, arrival.wait_for(Option::is_some)).await {
                Ok(Ok(landing)) => landing.clone(),
                Ok(Err(_)) => Some(Landing::Outage("the question was lost".to_owned())),
                Err(_) => Some(Landing::Outage(
                    "no answer before the login's deadline".to_owned(),
                )),
            };
            let source = self.parts.source.source();
            match landing {
                Some(Landing::Answered(verdict)) => return (at_once(verdict, source), None),
                Some(Landing::Unusable(why)) => {
                    return (
                        at_once(Verdict::deny(DenyCode::BadRequest, why.clone()), source),
                        Some(why),
                    );
                }
                Some(Landing::Outage(why)) => return self.in_outage(&key, why),
                Some(Landing::Overtaken) | None => {}
            }
        }
        self.in_outage(&key, "the answers were overtaken by invalidations".to_owned())
    }

    fn limit(&self, login: &Login) -> Option<Decision> {
        let now = self.parts.clock.now().mono;
        let mut state = self.lock();
        let State {
            per_user,
            per_address,
            ..
        } = &mut *state;
        let user = per_user
            .as_mut()
            .map_or(Ok(()), |limiter| limiter.take(&login.username, now));
        let address = per_address
            .as_mut()
            .map_or(Ok(()), |limiter| limiter.take(&login.client_ip, now));
        let reason = match (user, address) {
            (Ok(()), Ok(())) => return None,
            (Err(_), _) => "too many logins of this user",
            (Ok(()), Err(_)) => "too many logins from this address",
        };
        Some(at_once(
            Verdict::deny(DenyCode::RateLimited, reason),
            Source::Agent,
        ))
    }

    async fn decide_here(&self, login: &Login, patience: Instant) -> (Decision, Option<String>) {
        match timeout_at(patience, self.parts.source.check(login, patience)).await {
            Ok(Ok(answer)) => (at_once(answer.verdict, Source::Embedded), None),
            Ok(Err(SourceError::Outage(why) | SourceError::Unusable(why))) => (closed(), Some(why)),
            Err(_) => (closed(), Some("no answer before the login's deadline".to_owned())),
        }
    }

    /// A fresh decision, or a place among those who wait for the source. Without time to wait nobody is asked.
    fn take_seat(self: &Arc<Self>, key: &CacheKey, login: &Login, patience: Instant) -> Seat {
        let now = self.parts.clock.now();
        let mut state = self.lock();
        let (known, wanted) = match state.cache.lookup(key, now) {
            Lookup::Fresh(hit) => {
                let decision = Decision {
                    verdict: hit.verdict.clone(),
                    source: Source::Cache,
                    age: hit.age,
                    outage: None,
                };
                (Some(decision), hit.refresh)
            }
            Lookup::Stale { .. } | Lookup::Missing => (None, now.mono < patience.into_std()),
        };
        let (boarded, transition) = if wanted {
            self.board(&mut state, key, login, now)
        } else {
            (Err("no time left to ask"), None)
        };
        drop(state);
        self.tell(transition);
        match (known, boarded) {
            (Some(decision), _) => Seat::Decided(decision),
            (None, Ok(arrival)) => Seat::Waits(arrival),
            (None, Err(why)) => Seat::Outage(why),
        }
    }

    /// A place in the question about `key`, which begins if none is under way.
    fn board(
        self: &Arc<Self>,
        state: &mut State,
        key: &CacheKey,
        login: &Login,
        now: Now,
    ) -> (Result<Arrival, &'static str>, Option<Transition>) {
        if let Some(arrival) = state.flights.join(key) {
            return (Ok(arrival), None);
        }
        if state.flights.under_way() >= state.settings.max_questions {
            return (Err("too many questions to the source are under way"), None);
        }
        let (entry, transition) = self.breaker.admit(now.mono);
        let Entry::Admitted(pass) = entry else {
            return (Err("the circuit breaker is open"), transition);
        };
        let (landing, arrival) = watch::channel(None);
        let number = state.flights.depart(key.clone(), arrival.clone());
        // A probe of the breaker is lost after the breaker's timeout, so no question takes longer.
        let timeout = state.settings.source_timeout.min(state.settings.breaker.timeout);
        let ask = ask::Ask {
            question: Some(state.cache.ask(key.clone(), now)),
            inner: Arc::clone(self),
            login: login.clone(),
            number,
            begin: now,
            until: Instant::from_std(now.mono + timeout),
            timeout,
        };
        self.parts.tasks.spawn(ask.run(pass, landing));
        (Ok(arrival), transition)
    }

    /// What the fail mode makes of a login to which the source gave no answer.
    fn in_outage(&self, key: &CacheKey, why: String) -> (Decision, Option<String>) {
        let now = self.parts.clock.now();
        let mut state = self.lock();
        let mode = state.settings.fail_mode;
        let remembered = match mode {
            FailMode::Close => None,
            FailMode::Open | FailMode::Stale => state.cache.remembered(key, now),
        };
        let decision = match (mode, remembered) {
            (_, Some(known)) => Decision {
                verdict: known.verdict.clone(),
                source: Source::Stale,
                age: known.age,
                outage: None,
            },
            (FailMode::Open, None) => at_once(Verdict::Allow(Grant::default()), Source::FailOpen),
            (FailMode::Close | FailMode::Stale, None) => closed(),
        };
        (decision, Some(why))
    }

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

fn at_once(verdict: Verdict, source: Source) -> Decision {
    Decision {
        verdict,
        source,
        age: Duration::ZERO,
        outage: None,
    }
}

fn closed() -> Decision {
    at_once(
        Verdict::deny(DenyCode::Outage, "the policy cannot be asked at the moment"),
        Source::FailClose,
    )
}
