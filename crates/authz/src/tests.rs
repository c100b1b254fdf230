//! Tests of the pipeline on paused time, with a scripted source.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{Decision, DenyCode, Grant, Login, OcservId, Source, Username, Verdict};
use resilience::{BreakerSettings, CacheSettings, FailMode, Now, StaleMatch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::*;

mod changes;
mod denials;
mod errors;
mod model_check;
mod outages;
mod queries;
mod rate_limits;
mod revocations;
mod switches;

const SECOND: Duration = Duration::from_secs(1);

/// The product's defaults.
const SETTINGS: Settings = Settings {
    fail_mode: FailMode::Stale,
    source_timeout: Duration::from_secs(2),
    margin: Duration::from_millis(100),
    max_queries: 1_024,
    breaker: BreakerSettings {
        failure_threshold: 5,
        interval: Duration::from_secs(60),
        timeout: Duration::from_secs(30),
        max_requests: 1,
    },
    cache: CacheSettings {
        ttl: Duration::from_secs(300),
        stale_ttl: Duration::from_secs(1_800),
        deny_ttl: Duration::from_secs(30),
        max_ttl: Duration::from_secs(86_400),
        max_size: 10_000,
        max_per_user: 16,
        stale_match: StaleMatch::Exact,
    },
    rates: RateLimits {
        per_user: None,
        per_address: None,
        max_keys: 100,
    },
};

/// The defaults with a fail mode and a matching of stale decisions.
fn in_mode(fail_mode: FailMode, stale_match: StaleMatch) -> Settings {
    Settings {
        fail_mode,
        cache: CacheSettings {
            stale_match,
            ..SETTINGS.cache
        },
        ..SETTINGS
    }
}

/// How the source behaves.
#[derive(Debug, Clone)]
enum SourceBehaviour {
    Answers {
        verdict: Verdict,
        ttl: Option<Duration>,
        after: Duration,
    },
    Unreachable,
    /// Never answers.
    Hangs,
    Panics,
    Fails(SourceError),
    /// Answers, and wants the sessions of the user to end.
    Disconnects(Verdict),
}

struct SourceDouble {
    source: Source,
    behaviour: Mutex<SourceBehaviour>,
    calls: AtomicUsize,
}

impl PolicySource for SourceDouble {
    fn source(&self) -> Source {
        self.source
    }

    fn check<'a>(&'a self, _: &'a Login, _: Instant) -> CheckFuture<'a> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let behaviour = self.behaviour.lock().unwrap().clone();
        Box::pin(async move {
            match behaviour {
                SourceBehaviour::Answers { verdict, ttl, after } => {
                    sleep(after).await;
                    Ok(PolicyAnswer {
                        verdict,
                        ttl,
                        disconnect: false,
                    })
                }
                SourceBehaviour::Unreachable => Err(SourceError::Outage("not connected".to_owned())),
                SourceBehaviour::Hangs => std::future::pending().await,
                SourceBehaviour::Fails(error) => Err(error),
                SourceBehaviour::Disconnects(verdict) => Ok(PolicyAnswer {
                    verdict,
                    ttl: None,
                    disconnect: true,
                }),
                SourceBehaviour::Panics => panic!("a bug in the source"),
            }
        })
    }
}

/// A pipeline with its source, clock and observations.
struct Rig {
    authorizer: Authorizer,
    source: Arc<SourceDouble>,
    observed: Arc<Mutex<Vec<Observation>>>,
    stop: CancellationToken,
    /// How much the clock is ahead of the runtime's.
    clock_ahead: Arc<Mutex<Duration>>,
    /// Run at the next readings of the clock.
    hooks: Arc<Mutex<VecDeque<ClockHook>>>,
}

/// Runs while the pipeline reads the clock.
type ClockHook = Option<Box<dyn FnOnce() + Send>>;

impl Rig {
    fn new(settings: Settings) -> Self {
        Self::with_source(Source::Portal, settings)
    }

    fn with_source(source: Source, settings: Settings) -> Self {
        let source = Arc::new(SourceDouble {
            source,
            behaviour: Mutex::new(answers(allow())),
            calls: AtomicUsize::new(0),
        });
        let observed = Arc::new(Mutex::new(Vec::new()));
        let (stop, start) = (CancellationToken::new(), Instant::now());
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let observations = Arc::clone(&observed);
        let hooks: Arc<Mutex<VecDeque<ClockHook>>> = Arc::default();
        let pending = Arc::clone(&hooks);
        let clock_ahead: Arc<Mutex<Duration>> = Arc::default();
        let ahead = Arc::clone(&clock_ahead);
        let dependencies = Dependencies {
            source: Arc::clone(&source) as Arc<dyn PolicySource>,
            clock: Clock::new(move || {
                let hook = pending.lock().unwrap().pop_front().flatten();
                if let Some(hook) = hook {
                    hook();
                }
                let ahead = *ahead.lock().unwrap();
                Now {
                    mono: Instant::now().into_std() + ahead,
                    wall: wall + start.elapsed() + ahead,
                }
            }),
            observer: Observer::new(move |observation| observations.lock().unwrap().push(observation)),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        };
        Self {
            authorizer: Authorizer::new(dependencies, settings),
            source,
            observed,
            stop,
            clock_ahead,
            hooks,
        }
    }

    fn set_source(&self, behaviour: SourceBehaviour) {
        *self.source.behaviour.lock().unwrap() = behaviour;
    }

    fn calls(&self) -> usize {
        self.source.calls.load(Ordering::Relaxed)
    }

    async fn decide(&self, login: &Login) -> Decision {
        self.authorizer.decide(login, Instant::now() + 3 * SECOND).await
    }

    /// Returns whether `login` is allowed, and by which source.
    async fn outcome(&self, login: &Login) -> (bool, Source) {
        let decision = self.decide(login).await;
        (decision.verdict.is_allow(), decision.source)
    }

    /// Decides a login in the background.
    fn spawn_login(&self, login: &Login) -> tokio::task::JoinHandle<Decision> {
        let (authorizer, login) = (self.authorizer.clone(), login.clone());
        TaskTracker::new().spawn(async move { authorizer.decide(&login, Instant::now() + 3 * SECOND).await })
    }

    /// Opens the breaker with another user's logins, and leaves the source unreachable.
    async fn open_the_breaker(&self) {
        self.set_source(SourceBehaviour::Unreachable);
        for host in 100..105 {
            self.decide(&login("nobody", host)).await;
        }
        assert_eq!(
            self.authorizer.stats().breaker_state,
            resilience::BreakerState::Open
        );
    }
}

fn allow() -> Verdict {
    Verdict::Allow(Grant {
        routes: ["10.0.0.0/8".to_owned()].into(),
        dns_servers: [].into(),
    })
}

fn deny() -> Verdict {
    Verdict::deny(DenyCode::Policy, "denied by policy")
}

fn answers(verdict: Verdict) -> SourceBehaviour {
    SourceBehaviour::Answers {
        verdict,
        ttl: None,
        after: Duration::ZERO,
    }
}

fn answers_after(verdict: Verdict, after: Duration) -> SourceBehaviour {
    SourceBehaviour::Answers {
        verdict,
        ttl: None,
        after,
    }
}

fn login(name: &str, host: u8) -> Login {
    Login {
        username: Username::parse(name).unwrap(),
        group: None,
        client_ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)),
        vhost: None,
        id: OcservId::new(4_711).unwrap(),
        vpn_ip: None,
        device: "vpns0".to_owned(),
    }
}
