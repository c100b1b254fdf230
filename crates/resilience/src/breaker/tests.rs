//! Tests of the breaker, event by event.

use super::*;
use crate::{SharedAdmission, SharedBreaker};

mod reference;

const SETTINGS: BreakerSettings = BreakerSettings {
    failure_threshold: 3,
    interval: Duration::from_secs(60),
    timeout: Duration::from_secs(30),
    max_requests: 1,
};

/// A time that is a number of seconds.
fn at(seconds: u64) -> Instant {
    static BASE: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    #[expect(
        clippy::disallowed_methods,
        reason = "the base of the test's times; it is read once"
    )]
    let base = *BASE.get_or_init(Instant::now);
    base + Duration::from_secs(seconds)
}

fn permit(breaker: &mut Breaker, seconds: u64) -> Permit {
    match breaker.admit(at(seconds)).0 {
        Admission::Call(permit) | Admission::Probe(permit) => permit,
        Admission::Refused { retry_after } => panic!("refused for {retry_after:?} at {seconds}"),
    }
}

fn refused(breaker: &mut Breaker, seconds: u64) -> Option<u64> {
    match breaker.admit(at(seconds)).0 {
        Admission::Refused { retry_after } => Some(retry_after.as_secs()),
        Admission::Call(permit) | Admission::Probe(permit) => {
            breaker.cancel(permit);
            None
        }
    }
}

fn fail(breaker: &mut Breaker, seconds: u64) -> Option<Transition> {
    let permit = permit(breaker, seconds);
    breaker.settle(permit, CallOutcome::Failure, at(seconds))
}

/// A breaker that opened at 0.
fn opened(settings: BreakerSettings) -> Breaker {
    let mut breaker = Breaker::new(settings);
    for _ in 0..settings.failure_threshold {
        fail(&mut breaker, 0);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    breaker
}

#[test]
fn the_threshold_th_failure_within_the_interval_opens() {
    for (failures, expected) in [
        (vec![0, 0, 0], BreakerState::Open),
        (vec![0, 30, 59], BreakerState::Open),
        (vec![0, 30, 60], BreakerState::Closed),
        (vec![0, 30, 60, 89], BreakerState::Open),
        (vec![0, 60, 120, 180, 240], BreakerState::Closed),
    ] {
        let mut breaker = Breaker::new(SETTINGS);
        for &seconds in &failures {
            fail(&mut breaker, seconds);
        }
        assert_eq!(breaker.state(), expected, "{failures:?}");
    }
}

#[test]
fn successes_do_not_hide_failures() {
    let mut breaker = Breaker::new(SETTINGS);
    for second in 0..3 {
        let permit = permit(&mut breaker, second);
        assert_eq!(breaker.settle(permit, CallOutcome::Success, at(second)), None);
        fail(&mut breaker, second);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn transitions_are_returned_with_their_cause() {
    let mut breaker = Breaker::new(SETTINGS);
    fail(&mut breaker, 0);
    fail(&mut breaker, 0);
    let (closed, half, open) = (BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open);
    let transition_to = |from, to, cause| Some(Transition { from, to, cause });
    assert_eq!(
        fail(&mut breaker, 0),
        transition_to(closed, open, TransitionCause::Failures)
    );
    assert_eq!(refused(&mut breaker, 10), Some(20));
    let (admission, transition) = breaker.admit(at(30));
    assert_eq!(
        transition,
        transition_to(open, half, TransitionCause::TimeoutPassed)
    );
    let Admission::Probe(probe) = admission else {
        panic!("{admission:?}")
    };
    assert_eq!(
        breaker.settle(probe, CallOutcome::Failure, at(31)),
        transition_to(half, open, TransitionCause::ProbeFailed)
    );
    assert_eq!(
        refused(&mut breaker, 60),
        Some(1),
        "the new open time counts from the failed probe"
    );
    let probe = permit(&mut breaker, 61);
    assert_eq!(
        breaker.settle(probe, CallOutcome::Success, at(61)),
        transition_to(half, closed, TransitionCause::ProbesSucceeded)
    );
}

#[test]
fn the_log_names_each_state_and_each_cause() {
    let states = [BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open];
    assert_eq!(states.map(BreakerState::as_str), ["closed", "half-open", "open"]);
    let causes = [
        TransitionCause::Failures,
        TransitionCause::TimeoutPassed,
        TransitionCause::ProbeFailed,
        TransitionCause::ProbeLost,
        TransitionCause::ProbesSucceeded,
    ];
    assert_eq!(
        causes.map(TransitionCause::as_str),
        [
            "too many failures",
            "time to probe",
            "a probe failed",
            "a probe never returned",
            "the probes succeeded"
        ]
    );
}

#[test]
fn half_open_never_has_more_probes_than_max_requests() {
    for max_requests in [1, 3] {
        let mut breaker = opened(BreakerSettings {
            max_requests,
            ..SETTINGS
        });
        let mut probes = Vec::new();
        let mut refused = 0;
        for _ in 0..100 {
            match breaker.admit(at(30)).0 {
                Admission::Probe(permit) => probes.push(permit),
                Admission::Refused { .. } => refused += 1,
                Admission::Call(permit) => panic!("{permit:?}"),
            }
        }
        assert_eq!(
            (probes.len(), refused),
            (max_requests as usize, 100 - max_requests)
        );
        // A cancelled probe frees its slot for exactly one other.
        breaker.cancel(probes.pop().unwrap());
        probes.push(permit(&mut breaker, 31));
        assert!(matches!(breaker.admit(at(31)).0, Admission::Refused { .. }));
        for probe in probes {
            breaker.settle(probe, CallOutcome::Success, at(32));
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}

#[test]
fn a_lost_probe_counts_as_a_failure_and_does_not_keep_the_breaker_half_open() {
    let mut breaker = opened(SETTINGS);
    let lost = permit(&mut breaker, 30);
    assert_eq!(refused(&mut breaker, 59), Some(1));
    let (admission, transition) = breaker.admit(at(60));
    assert!(matches!(admission, Admission::Refused { retry_after } if retry_after == SETTINGS.timeout));
    assert_eq!(transition.unwrap().cause, TransitionCause::ProbeLost);
    let probe = permit(&mut breaker, 90);
    assert_eq!(
        breaker.settle(lost, CallOutcome::Success, at(90)),
        None,
        "a lost probe changes nothing when it returns"
    );
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    breaker.settle(probe, CallOutcome::Success, at(90));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn a_permit_of_an_earlier_generation_changes_nothing() {
    let mut breaker = Breaker::new(SETTINGS);
    let mut early: Vec<Permit> = (0..6).map(|_| permit(&mut breaker, 0)).collect();
    for _ in 0..3 {
        fail(&mut breaker, 0);
    }
    let mut settle = |breaker: &mut Breaker, outcome| breaker.settle(early.pop().unwrap(), outcome, at(30));
    assert_eq!(settle(&mut breaker, CallOutcome::Success), None);
    let probe = permit(&mut breaker, 30);
    for outcome in [CallOutcome::Success, CallOutcome::Failure, CallOutcome::Cancelled] {
        assert_eq!(settle(&mut breaker, outcome), None);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(refused(&mut breaker, 30).is_some(), "no slot was freed");
    }
    breaker.settle(probe, CallOutcome::Success, at(30));
    assert_eq!(settle(&mut breaker, CallOutcome::Failure), None);
    let stats = breaker.stats();
    assert_eq!(
        (stats.outdated, stats.cancelled, stats.failures, stats.successes),
        (4, 1, 3, 1)
    );
}

#[test]
fn a_dropped_permit_is_cancelled_and_no_success() {
    let breaker = SharedBreaker::new(BreakerSettings {
        failure_threshold: 1,
        ..SETTINGS
    });
    let admit = |seconds| breaker.admit(at(seconds)).0;
    let SharedAdmission::Admitted(permit) = admit(0) else {
        panic!()
    };
    assert!(permit.settle(CallOutcome::Failure, at(0)).is_some());
    let SharedAdmission::Admitted(probe) = admit(30) else {
        panic!()
    };
    assert!(matches!(admit(30), SharedAdmission::Refused { .. }));
    drop(probe);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    let SharedAdmission::Admitted(probe) = admit(30) else {
        panic!("the slot was not freed")
    };
    assert!(probe.settle(CallOutcome::Success, at(30)).is_some());
    assert_eq!(breaker.stats().cancelled, 1);
}

#[test]
fn a_time_that_goes_backwards_counts_as_the_latest_time() {
    let mut breaker = opened(SETTINGS);
    assert_eq!(refused(&mut breaker, 20), Some(10));
    assert_eq!(refused(&mut breaker, 0), Some(10));
    let probe = permit(&mut breaker, 30);
    breaker.settle(probe, CallOutcome::Failure, at(0));
    assert_eq!(refused(&mut breaker, 59), Some(1));
}

#[test]
fn new_settings_apply_to_the_next_call() {
    let mut breaker = opened(SETTINGS);
    breaker.configure(BreakerSettings {
        timeout: Duration::from_secs(5),
        ..SETTINGS
    });
    assert_eq!(refused(&mut breaker, 4), Some(1));
    let probe = permit(&mut breaker, 5);
    breaker.cancel(probe);
    let shared = SharedBreaker::new(SETTINGS);
    shared.clone().configure(BreakerSettings {
        failure_threshold: 1,
        ..SETTINGS
    });
    let SharedAdmission::Admitted(permit) = shared.admit(at(0)).0 else {
        panic!()
    };
    assert!(permit.settle(CallOutcome::Failure, at(0)).is_some());
}

#[test]
fn a_setting_of_zero_counts_as_one() {
    let mut breaker = Breaker::new(BreakerSettings {
        failure_threshold: 0,
        max_requests: 0,
        ..SETTINGS
    });
    assert_eq!(refused(&mut breaker, 0), None);
    assert!(fail(&mut breaker, 0).is_some());
    let probe = permit(&mut breaker, 30);
    assert_eq!(refused(&mut breaker, 30), Some(30));
    breaker.settle(probe, CallOutcome::Success, at(30));
    assert_eq!(breaker.state(), BreakerState::Closed);
}
