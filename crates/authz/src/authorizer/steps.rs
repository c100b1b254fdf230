//! The steps of one decision, in their order.

use std::sync::Arc;
use std::time::Duration;

use ocserv_agent_model::{Decision, DenyCode, Grant, Login, Source, Verdict};
use resilience::{CacheKey, Epoch, FailMode, Lookup, Now, SharedAdmission, SharedPermit, Transition};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::ask::Ask;
use super::{Inner, State};
use crate::flight::{Arrival, Landing};
use crate::observe::{DecisionRecord, Observation};
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
    departure: Option<(Ask, SharedPermit, watch::Sender<Option<Landing>>)>,
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
    /// The decision, on the record. One that was overtaken by an invalidation is made again.
    pub(super) async fn decide(self: &Arc<Self>, login: &Login, deadline: Instant, begin: Now) -> Decision {
        let (patience, mut mark, limited) = {
            let mut state = self.lock();
            let patience = deadline.checked_sub(state.settings.margin);
            let limited = state.limit(login, begin);
            (patience.unwrap_or(deadline), state.cache.epoch(), limited)
        };
        let key = CacheKey::from(login);
        if let Some(decision) = limited {
            self.stands(login, &key, &decision, mark, begin);
            return decision;
        }
        let mut refused = None;
        for _ in 0..ROUNDS {
            if let Some(decision) = self.once(&key, login, patience, &mut refused).await
                && self.stands(login, &key, &decision, mark, begin)
            {
                return decision;
            }
            mark = self.lock().cache.epoch();
        }
        // The source answers, so this is no outage: the fail mode has no say.
        let why = "the answers were overtaken by invalidations".to_owned();
        let decision = match refused {
            Some(verdict) => self.refused(verdict, why),
            None => closed(why),
        };
        self.stands(login, &key, &decision, mark, begin);
        decision
    }

    /// One way through the steps; `None` when an invalidation overtook the answer. A no among such answers goes to
    /// `refused`.
    async fn once(
        self: &Arc<Self>,
        key: &CacheKey,
        login: &Login,
        patience: Instant,
        refused: &mut Option<Verdict>,
    ) -> Option<Decision> {
        let source = self.parts.source.source();
        if source == Source::Embedded {
            return Some(self.decide_here(login, patience).await);
        }
        let mut arrival = match self.take_seat(key, login, patience) {
            Seat::Decided(decision) => return Some(decision),
            Seat::TooLate => return Some(too_late()),
            Seat::Outage(why) => return Some(self.without_answer(key, refused.take(), why.to_owned())),
            Seat::Waits(arrival) => arrival,
        };
        let landing = match timeout_at(patience, arrival.wait_for(Option::is_some)).await {
            Ok(Ok(landing)) => landing.clone()?,
            Ok(Err(_)) => Landing::Outage("the question was lost".to_owned()),
            Err(_) => Landing::Outage("no answer before the login's deadline".to_owned()),
        };
        match landing {
            Landing::Answered(verdict) => Some(at_once(verdict, source)),
            Landing::Outage(why) => Some(self.without_answer(key, refused.take(), why)),
            Landing::Overtaken(verdict) => {
                *refused = Some(verdict).filter(|said| !said.is_allow());
                None
            }
        }
    }

    /// Puts a decision on the record, unless it lets in a user who was thrown out since `mark`, when its grounds were not
    /// looked up yet. Both in one moment: so whoever throws her out finds each login of hers that was let in before on the
    /// record, and every later one is decided anew.
    fn stands(&self, login: &Login, key: &CacheKey, decision: &Decision, mark: Epoch, begin: Now) -> bool {
        let now = self.parts.clock.now();
        let took = now.mono.saturating_duration_since(begin.mono);
        let record = Arc::new(DecisionRecord::new(login, decision, now.wall, took));
        let mut state = self.lock();
        if decision.verdict.is_allow() && state.cache.invalidated_since(key, mark) {
            return false;
        }
        state.recent.note(Arc::clone(&record));
        drop(state);
        self.parts.observer.tell(Observation::Decided(record));
        true
    }

    /// What becomes of a login to which the source gave no answer that holds. Where its last word about this very login
    /// was a no, that an invalidation overtook, no fail mode makes a yes of it.
    fn without_answer(&self, key: &CacheKey, refused: Option<Verdict>, why: String) -> Decision {
        match refused {
            Some(verdict) => self.refused(verdict, why),
            None => self.in_outage(key, why),
        }
    }

    fn refused(&self, verdict: Verdict, why: String) -> Decision {
        Decision {
            outage: Some(why),
            ..at_once(verdict, self.parts.source.source())
        }
    }

    async fn decide_here(&self, login: &Login, patience: Instant) -> Decision {
        match timeout_at(patience, self.parts.source.check(login, patience)).await {
            Ok(Ok(answer)) => at_once(answer.verdict, Source::Embedded),
            Ok(Err(SourceError::Outage(why))) => closed(why),
            Err(_) => closed("no answer before the login's deadline".to_owned()),
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
        let SharedAdmission::Admitted(pass) = entry else {
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
            question: Some(state.cache.start_query(key.clone(), now)),
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
    fn in_outage(&self, key: &CacheKey, why: String) -> Decision {
        let now = self.parts.clock.now();
        let mut state = self.lock();
        let mode = state.settings.fail_mode;
        let remembered = match mode {
            FailMode::Close => None,
            FailMode::Open | FailMode::Stale => state.cache.stale_answer(key, now),
        };
        drop(state);
        match (mode, remembered) {
            (_, Some(known)) => Decision {
                verdict: known.verdict,
                source: Source::Stale,
                age: known.age,
                outage: Some(why),
            },
            (FailMode::Open, None) => Decision {
                outage: Some(why),
                ..at_once(Verdict::Allow(Grant::default()), Source::FailOpen)
            },
            (FailMode::Close | FailMode::Stale, None) => closed(why),
        }
    }
}

impl State {
    /// The refusal of a login that is one too many.
    fn limit(&mut self, login: &Login, now: Now) -> Option<Decision> {
        let user = self
            .per_user
            .as_mut()
            .map_or(Ok(()), |limiter| limiter.take(&login.username, now.mono));
        let address = self
            .per_address
            .as_mut()
            .map_or(Ok(()), |limiter| limiter.take(&login.client_ip, now.mono));
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

fn closed(why: String) -> Decision {
    let verdict = Verdict::deny(DenyCode::Outage, "the policy cannot be asked at the moment");
    Decision {
        outage: Some(why),
        ..at_once(verdict, Source::FailClose)
    }
}
