//! The breaker against a reference model.

use proptest::prelude::*;

use super::*;

/// A reference implementation: keeps every event and derives every result from all of them.
struct Reference {
    settings: BreakerSettings,
    now: u64,
    state: BreakerState,
    since: u64,
    /// Failures of the current generation.
    failures: Vec<u64>,
    successes: u32,
    generation: u64,
    /// Every permit ever issued: its generation, when, and whether it is in flight.
    permits: Vec<(u64, u64, bool)>,
}

impl Reference {
    fn enter(&mut self, state: BreakerState) {
        (self.state, self.since, self.successes) = (state, self.now, 0);
        self.failures.clear();
        self.generation += 1;
    }

    fn in_flight(&self) -> Vec<u64> {
        let now = self
            .permits
            .iter()
            .filter(|(generation, _, open)| *open && *generation == self.generation);
        now.map(|(_, begin, _)| *begin).collect()
    }

    fn admits(&mut self) -> bool {
        let timeout = self.settings.timeout.as_secs();
        if self.state == BreakerState::Open && self.now - self.since >= timeout {
            self.enter(BreakerState::HalfOpen);
        } else if self.state == BreakerState::HalfOpen
            && self.in_flight().iter().any(|begin| self.now - begin >= timeout)
        {
            self.enter(BreakerState::Open);
        }
        let admits = match self.state {
            BreakerState::Closed => true,
            BreakerState::Open => false,
            BreakerState::HalfOpen => {
                self.in_flight().len() + (self.successes as usize) < self.settings.max_requests as usize
            }
        };
        if admits {
            self.permits.push((self.generation, self.now, true));
        }
        admits
    }

    fn settle(&mut self, number: usize, outcome: CallOutcome) {
        let (generation, _, open) = &mut self.permits[number];
        *open = false;
        if *generation != self.generation || outcome == CallOutcome::Cancelled {
            return;
        }
        match (self.state, outcome) {
            (BreakerState::Closed, CallOutcome::Failure) => {
                self.failures.push(self.now);
                let interval = self.settings.interval.as_secs();
                let recent = self
                    .failures
                    .iter()
                    .filter(|at| self.now - **at < interval)
                    .count();
                if recent >= self.settings.failure_threshold as usize {
                    self.enter(BreakerState::Open);
                }
            }
            (BreakerState::HalfOpen, CallOutcome::Failure) => self.enter(BreakerState::Open),
            (BreakerState::HalfOpen, CallOutcome::Success) => {
                self.successes += 1;
                if self.successes >= self.settings.max_requests {
                    self.enter(BreakerState::Closed);
                }
            }
            _ => {}
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Admit,
    Settle(prop::sample::Index, CallOutcome),
    Forget(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![1 => Just(CallOutcome::Success), 3 => Just(CallOutcome::Failure), 1 => Just(CallOutcome::Cancelled)];
    prop_oneof![
        4 => prop_oneof![4 => 0..3_u64, 1 => 3..40_u64].prop_map(Step::Wait),
        8 => Just(Step::Admit),
        8 => (any::<prop::sample::Index>(), outcome).prop_map(|(index, outcome)| Step::Settle(index, outcome)),
        1 => any::<prop::sample::Index>().prop_map(Step::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_breaker_behaves_like_the_reference(
        (failure_threshold, interval, timeout, max_requests) in (1..5_u32, 1..30_u64, 1..20_u64, 1..4_u32),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let (interval, timeout) = (Duration::from_secs(interval), Duration::from_secs(timeout));
        let settings = BreakerSettings { failure_threshold, interval, timeout, max_requests };
        let mut breaker = Breaker::new(settings);
        let mut reference = Reference {
            settings, now: 0, state: BreakerState::Closed, since: 0, failures: Vec::new(), successes: 0, generation: 0,
            permits: Vec::new(),
        };
        let mut held: Vec<(usize, Permit)> = Vec::new();
        let mut refused = 0;
        for step in steps {
            match step {
                Step::Wait(seconds) => reference.now += seconds,
                Step::Admit => {
                    let (admission, transition) = breaker.admit(at(reference.now));
                    let before = reference.state;
                    let admits = reference.admits();
                    prop_assert_eq!(transition.map_or(before, |change| change.to), reference.state);
                    match admission {
                        Admission::Refused { .. } => {
                            prop_assert!(!admits);
                            refused += 1;
                        }
                        Admission::Call(permit) => {
                            prop_assert!(admits && reference.state == BreakerState::Closed);
                            held.push((reference.permits.len() - 1, permit));
                        }
                        Admission::Probe(permit) => {
                            prop_assert!(admits && reference.state == BreakerState::HalfOpen);
                            held.push((reference.permits.len() - 1, permit));
                        }
                    }
                }
                Step::Settle(which, outcome) if !held.is_empty() => {
                    let (number, permit) = held.swap_remove(which.index(held.len()));
                    let before = reference.state;
                    reference.settle(number, outcome);
                    let transition = breaker.settle(permit, outcome, at(reference.now));
                    let expected = (before != reference.state).then_some((before, reference.state));
                    prop_assert_eq!(transition.map(|change| (change.from, change.to)), expected);
                }
                // A permit that is never settled.
                Step::Forget(which) if !held.is_empty() => drop(held.swap_remove(which.index(held.len()))),
                Step::Settle(..) | Step::Forget(_) => {}
            }
            prop_assert_eq!(breaker.state(), reference.state);
            let stats = breaker.stats();
            prop_assert_eq!(stats.requests, reference.permits.len() as u64);
            prop_assert_eq!(stats.generations, reference.generation);
            prop_assert_eq!(stats.refused, refused);
            let settled = stats.successes + stats.failures + stats.cancelled + stats.outdated;
            let open = reference.permits.iter().filter(|(_, _, open)| *open).count();
            prop_assert_eq!(stats.requests, settled + open as u64);
        }
    }
}
