//! The circuit breaker: stops calls to an unavailable source, and probes it until it recovers.
//!
//! **Closed**: every call is admitted. The `failure_threshold`-th failure within `interval` opens
//! the breaker. The window is exact: it holds the instants of the last `failure_threshold`
//! failures, and a failure is inside it while it is younger than `interval`. Successes do not
//! empty it.
//!
//! **Open**: every call is refused until `timeout` has passed; the first call after that half-opens
//! the breaker.
//!
//! **Half-open**: at most as many probes at once as successes are still missing, so never more than
//! `max_requests`. `max_requests` successes close the breaker, one failure opens it again. A
//! cancelled probe frees its slot. A probe that was not settled within `timeout` is lost: it counts
//! as a failure and opens the breaker, so that a lost permit cannot keep the breaker half-open for
//! ever. A caller that bounds its calls by `timeout` therefore never has more than `max_requests`
//! probes in flight.
//!
//! Every transition starts a new generation. A permit of an earlier generation changes nothing when
//! it is settled.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Settings of a breaker. A zero number counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// This many failures within `interval` open the breaker.
    pub failure_threshold: u32,
    /// Length of the rolling window.
    pub interval: Duration,
    /// How long the breaker stays open, and how long a probe may take.
    pub timeout: Duration,
    /// How many probes may run at once in half-open, and how many must succeed to close the
    /// breaker.
    pub max_requests: u32,
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Every call is admitted.
    Closed,
    /// A few calls are admitted as probes.
    HalfOpen,
    /// Every call is refused.
    Open,
}

impl BreakerState {
    /// Returns the name in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// The right to make one call; to be settled or cancelled. [`SharedPermit`](crate::SharedPermit)
/// cancels itself when it is dropped.
#[derive(Debug)]
#[must_use = "a permit that is neither settled nor cancelled keeps its slot until it counts as lost"]
pub struct Permit {
    generation: u64,
    /// Identifies a probe of the generation; `None` for a call through a closed breaker.
    probe: Option<u64>,
}

/// Whether a call may be made now.
#[derive(Debug)]
pub enum Admission {
    /// Make the call.
    Call(Permit),
    /// Make the call: its outcome decides whether the breaker closes.
    Probe(Permit),
    /// Make no call.
    Refused {
        /// Time after which a call may be admitted.
        retry_after: Duration,
    },
}

/// How a permitted call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// The source answered.
    Success,
    /// The source gave no usable answer.
    Failure,
    /// The caller stopped waiting, which is neither.
    Cancelled,
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: BreakerState,
    /// The state after.
    pub to: BreakerState,
    /// What caused it.
    pub cause: TransitionCause,
}

/// What changes a breaker's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransitionCause {
    /// The window reached `failure_threshold` failures.
    Failures,
    /// The breaker had been open for `timeout`.
    TimeoutPassed,
    /// A probe failed.
    ProbeFailed,
    /// A probe was not settled within `timeout`.
    ProbeLost,
    /// `max_requests` probes succeeded.
    ProbesSucceeded,
}

impl TransitionCause {
    /// Returns the cause as a fragment of a sentence, for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "too many failures",
            Self::TimeoutPassed => "time to probe",
            Self::ProbeFailed => "a probe failed",
            Self::ProbeLost => "a probe never returned",
            Self::ProbesSucceeded => "the probes succeeded",
        }
    }
}

/// Counters since the breaker was created. `requests` = `successes` + `failures` + `cancelled` +
/// `outdated` + calls in flight; a lost probe is in flight until it is settled, and `outdated`
/// then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BreakerStats {
    /// Calls admitted.
    pub requests: u64,
    /// Calls that succeeded within their generation.
    pub successes: u64,
    /// Calls that failed within their generation.
    pub failures: u64,
    /// Calls that were cancelled, in whatever generation.
    pub cancelled: u64,
    /// Calls that succeeded or failed in a later generation and therefore changed nothing.
    pub outdated: u64,
    /// Calls refused.
    pub refused: u64,
    /// Transitions.
    pub generations: u64,
}

#[derive(Debug)]
enum Phase {
    /// Instants of the failures inside the window, oldest first; never more than the threshold.
    Closed {
        failures: VecDeque<Instant>,
    },
    Open {
        since: Instant,
    },
    HalfOpen {
        /// Number and start of each probe in flight, oldest first.
        probes: VecDeque<(u64, Instant)>,
        successes: u32,
    },
}

/// A circuit breaker.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    phase: Phase,
    generation: u64,
    next_probe: u64,
    /// The latest time; an earlier `now` counts as this time, so that no period is prolonged.
    latest: Option<Instant>,
    stats: BreakerStats,
}

impl Breaker {
    /// Creates a closed breaker.
    #[must_use]
    pub fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            phase: Phase::Closed {
                failures: VecDeque::new(),
            },
            generation: 0,
            next_probe: 0,
            latest: None,
            stats: BreakerStats::default(),
        }
    }

    /// Admits or refuses one call. Returns the transition that this caused, if any.
    pub fn admit(&mut self, now: Instant) -> (Admission, Option<Transition>) {
        let now = self.advance(now);
        let transition = self.apply_timeout(now);
        let timeout = self.settings.timeout;
        let admission = match &mut self.phase {
            Phase::Closed { .. } => Admission::Call(Permit {
                generation: self.generation,
                probe: None,
            }),
            Phase::Open { since } => Admission::Refused {
                retry_after: timeout.saturating_sub(now.saturating_duration_since(*since)),
            },
            Phase::HalfOpen { probes, successes } => {
                let wanted = self.settings.max_requests.saturating_sub(*successes) as usize;
                match probes.front() {
                    Some((_, oldest)) if probes.len() >= wanted => {
                        let waited = now.saturating_duration_since(*oldest);
                        Admission::Refused {
                            retry_after: timeout.saturating_sub(waited),
                        }
                    }
                    _ => {
                        let number = self.next_probe;
                        self.next_probe += 1;
                        probes.push_back((number, now));
                        Admission::Probe(Permit {
                            generation: self.generation,
                            probe: Some(number),
                        })
                    }
                }
            }
        };
        match admission {
            Admission::Refused { .. } => self.stats.refused += 1,
            Admission::Call(_) | Admission::Probe(_) => self.stats.requests += 1,
        }
        (admission, transition)
    }

    /// Reports how a permitted call ended; a permit of an earlier generation changes nothing.
    pub fn settle(&mut self, permit: Permit, outcome: CallOutcome, now: Instant) -> Option<Transition> {
        let now = self.advance(now);
        if outcome == CallOutcome::Cancelled {
            self.cancel(permit);
            return None;
        }
        if permit.generation != self.generation {
            self.stats.outdated += 1;
            return None;
        }
        match outcome {
            CallOutcome::Success => self.stats.successes += 1,
            CallOutcome::Failure => self.stats.failures += 1,
            CallOutcome::Cancelled => {}
        }
        let next = match (&mut self.phase, outcome) {
            (Phase::Closed { failures }, CallOutcome::Failure) => {
                failures.push_back(now);
                while failures
                    .front()
                    .is_some_and(|at| now.saturating_duration_since(*at) >= self.settings.interval)
                {
                    failures.pop_front();
                }
                (failures.len() >= self.settings.failure_threshold as usize)
                    .then_some((Phase::Open { since: now }, TransitionCause::Failures))
            }
            (Phase::HalfOpen { .. }, CallOutcome::Failure) => {
                Some((Phase::Open { since: now }, TransitionCause::ProbeFailed))
            }
            (Phase::HalfOpen { probes, successes }, CallOutcome::Success) => {
                probes.retain(|(number, _)| Some(*number) != permit.probe);
                *successes += 1;
                (*successes >= self.settings.max_requests).then_some((
                    Phase::Closed {
                        failures: VecDeque::new(),
                    },
                    TransitionCause::ProbesSucceeded,
                ))
            }
            (Phase::Closed { .. } | Phase::Open { .. }, _)
            | (Phase::HalfOpen { .. }, CallOutcome::Cancelled) => None,
        };
        next.map(|(phase, cause)| self.transition(phase, cause))
    }

    /// Reports that a permitted call was abandoned; only frees the slot of a probe.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a permit is used up: it cannot be settled twice"
    )]
    pub fn cancel(&mut self, permit: Permit) {
        self.stats.cancelled += 1;
        if permit.generation != self.generation {
            return;
        }
        if let Phase::HalfOpen { probes, .. } = &mut self.phase {
            probes.retain(|(number, _)| Some(*number) != permit.probe);
        }
    }

    /// Replaces the settings. The state stays; the next call or outcome is the first to use them.
    pub fn configure(&mut self, settings: BreakerSettings) {
        self.settings = settings;
    }

    /// Returns the state. An open breaker stays open until the first [`Self::admit`] after
    /// `timeout`.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> BreakerStats {
        self.stats
    }

    /// Applies the transition that is due by time alone.
    fn apply_timeout(&mut self, now: Instant) -> Option<Transition> {
        let over = |since: Instant| now.saturating_duration_since(since) >= self.settings.timeout;
        let (phase, cause) = match &self.phase {
            Phase::Open { since } if over(*since) => (
                Phase::HalfOpen {
                    probes: VecDeque::new(),
                    successes: 0,
                },
                TransitionCause::TimeoutPassed,
            ),
            Phase::HalfOpen { probes, .. } if probes.front().is_some_and(|(_, start)| over(*start)) => {
                (Phase::Open { since: now }, TransitionCause::ProbeLost)
            }
            Phase::Closed { .. } | Phase::Open { .. } | Phase::HalfOpen { .. } => return None,
        };
        Some(self.transition(phase, cause))
    }

    fn transition(&mut self, phase: Phase, cause: TransitionCause) -> Transition {
        let from = self.state();
        self.phase = phase;
        self.generation += 1;
        self.stats.generations += 1;
        Transition {
            from,
            to: self.state(),
            cause,
        }
    }

    /// Returns the later of `now` and the latest time.
    fn advance(&mut self, now: Instant) -> Instant {
        let now = self.latest.map_or(now, |latest| latest.max(now));
        self.latest = Some(now);
        now
    }
}
