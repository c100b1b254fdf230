//! The steps of one decision, in order.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ocserv_agent_model::{Decision, DenyCode, Grant, Login, Source, Verdict};
use resilience::{CacheKey, Epoch, FailMode, Now, SharedAdmission, SharedPermit, Transition};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::query::SourceQuery;
use super::{Inner, State};
use crate::in_flight::{QueryResult, ResultReceiver};
use crate::observer::{DecisionRecord, Observation};
use crate::switches::ActiveSwitches;

/// How often a login is decided when invalidations make its answers unusable.
const MAX_ATTEMPTS: usize = 3;

const NO_ANSWER_IN_TIME: &str = "no answer before the login's deadline";

/// What the cache and the queries in flight have for a login.
enum Lookup {
    Decided(Decision),
    Waiting(ResultReceiver),
    /// The source cannot be queried.
    Outage(&'static str),
    /// The login's deadline leaves no time for a query, which is no outage of the source.
    NoTime,
}

/// The outcome of joining the query about a key.
struct Join {
    /// The query's result, or why there is no query.
    result: Result<ResultReceiver, &'static str>,
    /// The breaker's transition that it caused.
    transition: Option<Transition>,
    /// The query, if it has to be started.
    start: Option<(SourceQuery, SharedPermit, watch::Sender<Option<QueryResult>>)>,
}

impl Join {
    fn without_start(result: Result<ResultReceiver, &'static str>) -> Self {
        Self {
            result,
            transition: None,
            start: None,
        }
    }
}

impl Inner {
    /// Decides a login and commits the decision; repeats both after an invalidation.
    pub(super) async fn decide(self: &Arc<Self>, login: &Login, deadline: Instant, started: Now) -> Decision {
        let (wait_until, mut epoch, limited) = {
            let mut state = self.lock();
            let wait_until = deadline.checked_sub(state.settings.margin);
            let limited = state.limit(login, started);
            (wait_until.unwrap_or(deadline), state.cache.epoch(), limited)
        };
        let key = CacheKey::from(login);
        if let Some(decision) = limited {
            self.commit(login, &key, &decision, epoch, started);
            return decision;
        }
        let mut denied = None;
        for _ in 0..MAX_ATTEMPTS {
            if let Some(decision) = self.attempt(&key, login, wait_until, &mut denied).await
                && self.commit(login, &key, &decision, epoch, started)
            {
                return decision;
            }
            epoch = self.lock().cache.epoch();
        }
        // The source answers, so this is no outage and the fail mode does not apply.
        let cause = "every answer was invalidated before it could be used".to_owned();
        let decision = match denied {
            Some(verdict) => self.denied(verdict, cause),
            None => fail_close(cause),
        };
        self.commit(login, &key, &decision, epoch, started);
        decision
    }

    /// Decides once; `None` when the answer was invalidated. Stores an invalidated deny in
    /// `denied`.
    async fn attempt(
        self: &Arc<Self>,
        key: &CacheKey,
        login: &Login,
        wait_until: Instant,
        denied: &mut Option<Verdict>,
    ) -> Option<Decision> {
        let source = self.dependencies.source.source();
        if source == Source::Embedded {
            return Some(self.decide_embedded(login, wait_until).await);
        }
        let mut result = match self.look_up(key, login, wait_until) {
            Lookup::Decided(decision) => return Some(decision),
            Lookup::NoTime => return Some(no_time()),
            Lookup::Outage(cause) => {
                self.restored(wait_until).await;
                return Some(self.without_answer(key, denied.take(), cause.to_owned()));
            }
            Lookup::Waiting(result) => result,
        };
        let result = match timeout_at(wait_until, result.wait_for(Option::is_some)).await {
            Ok(Ok(result)) => result.clone()?,
            Ok(Err(_)) => QueryResult::Outage("the query failed".to_owned()),
            Err(_) => QueryResult::Outage(NO_ANSWER_IN_TIME.to_owned()),
        };
        match result {
            QueryResult::Answered(verdict) => Some(decided(verdict, source)),
            QueryResult::Outage(cause) => {
                self.restored(wait_until).await;
                Some(self.without_answer(key, denied.take(), cause))
            }
            QueryResult::Invalidated(verdict) => {
                *denied = Some(verdict).filter(|verdict| !verdict.is_allow());
                None
            }
        }
    }

    /// Records a decision atomically; rejects an allow older than a revocation. So a revocation
    /// either finds an earlier allow of the user on record, or that login is decided again.
    fn commit(&self, login: &Login, key: &CacheKey, decision: &Decision, epoch: Epoch, started: Now) -> bool {
        let now = self.dependencies.clock.now();
        let duration = now.mono.saturating_duration_since(started.mono);
        let record = Arc::new(DecisionRecord::new(login, decision, now.wall, duration));
        let mut state = self.lock();
        if decision.verdict.is_allow() && state.cache.invalidated_since(key, epoch) {
            return false;
        }
        state.recent.push(Arc::clone(&record));
        drop(state);
        self.dependencies.observer.report(Observation::Decided(record));
        true
    }

    /// Waits until the records of an earlier process are read, where the fail mode may use them.
    async fn restored(&self, wait_until: Instant) {
        if !*self.is_restoring.borrow() {
            return;
        }
        let now = self.dependencies.clock.now();
        if self.lock().fail_mode(now) == FailMode::Close {
            return;
        }
        let mut is_restoring = self.is_restoring.subscribe();
        let restored = is_restoring.wait_for(|is_restoring| !is_restoring);
        let _restored_or_late = timeout_at(wait_until, restored).await;
    }

    /// Decides a login without a usable answer. No fail mode turns an invalidated deny of this
    /// login into an allow.
    fn without_answer(&self, key: &CacheKey, denied: Option<Verdict>, cause: String) -> Decision {
        match denied {
            Some(verdict) => self.denied(verdict, cause),
            None => self.decide_in_outage(key, cause),
        }
    }

    fn denied(&self, verdict: Verdict, cause: String) -> Decision {
        Decision {
            outage: Some(cause),
            ..decided(verdict, self.dependencies.source.source())
        }
    }

    async fn decide_embedded(&self, login: &Login, wait_until: Instant) -> Decision {
        match timeout_at(wait_until, self.dependencies.source.check(login, wait_until)).await {
            Ok(Ok(answer)) => decided(answer.verdict, Source::Embedded),
            Ok(Err(error)) => fail_close(error.to_string()),
            Err(_) => fail_close(NO_ANSWER_IN_TIME.to_owned()),
        }
    }

    /// Looks up a fresh decision, or joins a query unless there is no time to wait for it.
    fn look_up(self: &Arc<Self>, key: &CacheKey, login: &Login, wait_until: Instant) -> Lookup {
        let now = self.dependencies.clock.now();
        let mut state = self.lock();
        let is_forced = state.switches.active(now).force_online.is_some();
        let cached = match state.cache.lookup(key, now) {
            resilience::Lookup::Fresh(hit) if !is_forced => {
                let decision = Decision {
                    verdict: hit.verdict.clone(),
                    source: Source::Cache,
                    age: hit.age,
                    outage: None,
                };
                if !hit.refresh {
                    return Lookup::Decided(decision);
                }
                Some(decision)
            }
            resilience::Lookup::Fresh(_) | resilience::Lookup::Stale { .. } | resilience::Lookup::Missing => {
                if now.mono >= wait_until.into_std() {
                    return Lookup::NoTime;
                }
                None
            }
        };
        let join = self.join(&mut state, key, login, now);
        drop(state);
        self.report_transition(join.transition);
        // After the lock is released: a runtime that shuts down drops the query at once, which
        // locks.
        if let Some((query, permit, result)) = join.start {
            self.dependencies.tasks.spawn(query.run(permit, result));
        }
        match (cached, join.result) {
            (Some(decision), _) => Lookup::Decided(decision),
            (None, Ok(result)) => Lookup::Waiting(result),
            (None, Err(cause)) => Lookup::Outage(cause),
        }
    }

    /// Joins the query about `key`, or registers one to be started.
    fn join(self: &Arc<Self>, state: &mut State, key: &CacheKey, login: &Login, now: Now) -> Join {
        if let Some(result) = state.queries.join(key) {
            return Join::without_start(Ok(result));
        }
        if state.queries.count() >= state.settings.max_queries {
            return Join::without_start(Err("too many queries to the policy source in flight"));
        }
        let (admission, transition) = self.breaker.admit(now.mono);
        let SharedAdmission::Admitted(permit) = admission else {
            return Join {
                transition,
                ..Join::without_start(Err("the circuit breaker is open"))
            };
        };
        let (sender, result) = watch::channel(None);
        let number = state.queries.start(key.clone(), result.clone());
        // A probe counts as lost after the breaker's timeout, so no query may take longer.
        let timeout = state.settings.source_timeout.min(state.settings.breaker.timeout);
        let query = SourceQuery {
            query: Some(state.cache.start_query(key.clone(), now)),
            inner: Arc::clone(self),
            login: login.clone(),
            number,
            started: now,
            deadline: Instant::from_std(now.mono + timeout),
            timeout,
        };
        Join {
            result: Ok(result),
            transition,
            start: Some((query, permit, sender)),
        }
    }

    /// Applies the fail mode.
    fn decide_in_outage(&self, key: &CacheKey, cause: String) -> Decision {
        let now = self.dependencies.clock.now();
        let mut state = self.lock();
        let mode = state.fail_mode(now);
        let stale = match mode {
            FailMode::Close => None,
            FailMode::Open | FailMode::Stale => state.cache.stale_answer(key, now),
        };
        let unknown = match (state.cache.forgot_denies(), state.cache.lacks_records()) {
            (true, _) => Some("denied users were forgotten, resilience.cache.max_size is too small"),
            (_, true) => Some("denied users may be unknown, the decision store was unusable"),
            _ => None,
        };
        drop(state);
        match (mode, stale) {
            (_, Some(stale)) => Decision {
                verdict: stale.verdict,
                source: Source::Stale,
                age: stale.age,
                outage: Some(cause),
            },
            (FailMode::Open, None) => match unknown {
                Some(unknown) => fail_close(format!("{cause}; {unknown}")),
                None => Decision {
                    outage: Some(cause),
                    ..decided(Verdict::Allow(Grant::default()), Source::FailOpen)
                },
            },
            (FailMode::Close | FailMode::Stale, None) => fail_close(cause),
        }
    }
}

impl State {
    /// Returns the mode that decides a login without an answer.
    fn fail_mode(&self, now: Now) -> FailMode {
        let ActiveSwitches {
            fail_mode,
            force_online,
        } = self.switches.active(now);
        match (force_online, fail_mode) {
            (Some(_), _) => FailMode::Close,
            (None, Some((mode, _))) => mode,
            (None, None) => self.settings.fail_mode,
        }
    }

    /// Applies the rate limits; returns the deny of a login that exceeds one.
    fn limit(&mut self, login: &Login, now: Now) -> Option<Decision> {
        let user = self
            .per_user
            .as_mut()
            .map_or(Ok(()), |limiter| limiter.take(&login.username, now.mono));
        let address = self.per_address.as_mut().map_or(Ok(()), |limiter| {
            limiter.take(&network(login.client_ip), now.mono)
        });
        let reason = match (user, address) {
            (Ok(()), Ok(())) => return None,
            (Err(_), _) => "too many logins of this user",
            (Ok(()), Err(_)) => "too many logins from this address",
        };
        Some(decided(
            Verdict::deny(DenyCode::RateLimited, reason),
            Source::Agent,
        ))
    }
}

/// Returns the network by which a client's logins are limited: a client has the whole /64 of its
/// IPv6 address to choose from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

fn decided(verdict: Verdict, source: Source) -> Decision {
    Decision {
        verdict,
        source,
        age: Duration::ZERO,
        outage: None,
    }
}

fn no_time() -> Decision {
    let verdict = Verdict::deny(DenyCode::Outage, "no time left to query the policy source");
    decided(verdict, Source::Agent)
}

fn fail_close(cause: String) -> Decision {
    let verdict = Verdict::deny(DenyCode::Outage, "the policy source is unavailable");
    Decision {
        outage: Some(cause),
        ..decided(verdict, Source::FailClose)
    }
}
