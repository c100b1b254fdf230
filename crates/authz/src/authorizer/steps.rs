//! The steps of one decision, in their order.

use std::sync::Arc;
use std::time::Duration;

use model::{Decision, DenyCode, Grant, Login, Source, Verdict};
use resilience::{CacheKey, Entry, FailMode, Lookup, Now, Pass, Transition};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::ask::Ask;
use super::{Inner, State};
use crate::flight::{Arrival, Landing};
use crate::source::SourceError;

/// How often a login asks anew because an invalidation overtook its question.
const ROUNDS: usize = 3;

/// Where a login stands after a look at what is known.
enum Seat {
    Decided(Decision),
    Waits(Arrival),
    /// Nobody can be asked.
    Outage(&'static str),
    /// Nobody was asked, for want of time: that is no outage of the source.
    TooLate,
}

/// What came of the wish for a place in a question.
struct Boarding {
    /// The place, or why there is none.
    place: Result<Arrival, &'static str>,
    /// What it did to the breaker.
    transition: Option<Transition>,
    /// The question, if it has to begin.
    departure: Option<(Ask, Pass, watch::Sender<Option<Landing>>)>,
}

impl Boarding {
    fn of(place: Result<Arrival, &'static str>) -> Self {
        Self {
            place,
            transition: None,
            departure: None,
        }
    }
}

impl Inner {
    /// The decision, and why the source did not make it where it was to be asked.
    pub(super) async fn decide(
        self: &Arc<Self>,
        login: &Login,
        deadline: Instant,
    ) -> (Decision, Option<String>) {
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
        let source = self.parts.source.source();
        let mut refused = None;
        for _ in 0..ROUNDS {
            let mut arrival = match self.take_seat(&key, login, patience) {
                Seat::Decided(decision) => return (decision, None),
                Seat::TooLate => return (too_late(), None),
                Seat::Outage(why) => return self.without_answer(&key, refused, why.to_owned()),
                Seat::Waits(arrival) => arrival,
            };
            let landing = match timeout_at(patience, arrival.wait_for(Option::is_some)).await {
                Ok(Ok(landing)) => landing.clone(),
                Ok(Err(_)) => Some(Landing::Outage("the question was lost".to_owned())),
                Err(_) => Some(Landing::Outage(
                    "no answer before the login's deadline".to_owned(),
                )),
            };
            match landing {
                Some(Landing::Answered(verdict)) => return (at_once(verdict, source), None),
                Some(Landing::Outage(why)) => return self.without_answer(&key, refused, why),
                Some(Landing::Overtaken(verdict)) => refused = Some(verdict).filter(|said| !said.is_allow()),
                None => {}
            }
        }
        let why = "the answers were overtaken by invalidations".to_owned();
        self.without_answer(&key, refused, why)
    }

    /// What becomes of a login to which the source gave no answer that holds. Where its last word about this very login
    /// was a no, that an invalidation overtook, no fail mode makes a yes of it.
    fn without_answer(
        &self,
        key: &CacheKey,
        refused: Option<Verdict>,
        why: String,
    ) -> (Decision, Option<String>) {
        match refused {
            Some(verdict) => (at_once(verdict, self.parts.source.source()), Some(why)),
            None => self.in_outage(key, why),
        }
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
            Ok(Err(SourceError::Outage(why))) => (closed(), Some(why)),
            Err(_) => (closed(), Some("no answer before the login's deadline".to_owned())),
        }
    }

    /// A fresh decision, or a place among those who wait for the source. Without time to wait nobody is asked.
    fn take_seat(self: &Arc<Self>, key: &CacheKey, login: &Login, patience: Instant) -> Seat {
        let now = self.parts.clock.now();
        let mut state = self.lock();
        let known = match state.cache.lookup(key, now) {
            Lookup::Fresh(hit) => {
                let decision = Decision {
                    verdict: hit.verdict.clone(),
                    source: Source::Cache,
                    age: hit.age,
                    outage: None,
                };
                if !hit.refresh {
                    return Seat::Decided(decision);
                }
                Some(decision)
            }
            Lookup::Stale { .. } | Lookup::Missing if now.mono >= patience.into_std() => {
                return Seat::TooLate;
            }
            Lookup::Stale { .. } | Lookup::Missing => None,
        };
        let boarding = self.board(&mut state, key, login, now);
        drop(state);
        self.tell(boarding.transition);
        // Not under the lock: a runtime that is going down drops the question on the spot, which takes the lock.
        if let Some((ask, pass, landing)) = boarding.departure {
            self.parts.tasks.spawn(ask.run(pass, landing));
        }
        match (known, boarding.place) {
            (Some(decision), _) => Seat::Decided(decision),
            (None, Ok(arrival)) => Seat::Waits(arrival),
            (None, Err(why)) => Seat::Outage(why),
        }
    }

    /// A place in the question about `key`, which is to depart if none is under way.
    fn board(self: &Arc<Self>, state: &mut State, key: &CacheKey, login: &Login, now: Now) -> Boarding {
        if let Some(arrival) = state.flights.join(key) {
            return Boarding::of(Ok(arrival));
        }
        if state.flights.under_way() >= state.settings.max_questions {
            return Boarding::of(Err("too many questions to the source are under way"));
        }
        let (entry, transition) = self.breaker.admit(now.mono);
        let Entry::Admitted(pass) = entry else {
            return Boarding {
                transition,
                ..Boarding::of(Err("the circuit breaker is open"))
            };
        };
        let (landing, arrival) = watch::channel(None);
        let number = state.flights.depart(key.clone(), arrival.clone());
        // A probe of the breaker is lost after the breaker's timeout, so no question takes longer.
        let timeout = state.settings.source_timeout.min(state.settings.breaker.timeout);
        let ask = Ask {
            question: Some(state.cache.ask(key.clone(), now)),
            inner: Arc::clone(self),
            login: login.clone(),
            number,
            begin: now,
            until: Instant::from_std(now.mono + timeout),
            timeout,
        };
        Boarding {
            place: Ok(arrival),
            transition,
            departure: Some((ask, pass, landing)),
        }
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
}

fn at_once(verdict: Verdict, source: Source) -> Decision {
    Decision {
        verdict,
        source,
        age: Duration::ZERO,
        outage: None,
    }
}

fn too_late() -> Decision {
    let verdict = Verdict::deny(DenyCode::Outage, "there was no time left to ask");
    at_once(verdict, Source::Agent)
}

fn closed() -> Decision {
    at_once(
        Verdict::deny(DenyCode::Outage, "the policy cannot be asked at the moment"),
        Source::FailClose,
    )
}
