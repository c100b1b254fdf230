//! The pipeline on paused time, with a source that does what a test wants.

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

mod asking;
mod day;
mod outages;
mod revocations;

const SECOND: Duration = Duration::from_secs(1);

/// The product's defaults.
const SETTINGS: Settings = Settings {
    fail_mode: FailMode::Stale,
    source_timeout: Duration::from_secs(2),
    margin: Duration::from_millis(100),
    max_questions: 1_024,
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
        stale_match: StaleMatch::Exact,
    },
    rates: RateLimits {
        per_user: None,
        per_address: None,
        max_keys: 100,
    },
};

/// What the source does with a question.
#[derive(Debug, Clone)]
enum Does {
    /// Answers after a time.
    Says {
        verdict: Verdict,
        ttl: Option<Duration>,
        after: Duration,
    },
    /// Cannot be reached.
    IsGone,
    /// Never answers.
    Hangs,
    /// Has a bug.
    Panics,
}

struct Double {
    called: Source,
    does: Mutex<Does>,
    calls: AtomicUsize,
}

impl PolicySource for Double {
    fn source(&self) -> Source {
        self.called
    }

    fn check<'a>(&'a self, _: &'a Login, _: Instant) -> Check<'a> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let does = self.does.lock().unwrap().clone();
        Box::pin(async move {
            match does {
                Does::Says { verdict, ttl, after } => {
                    sleep(after).await;
                    Ok(Answer { verdict, ttl })
                }
                Does::IsGone => Err(SourceError::Outage("not connected".to_owned())),
                Does::Hangs => std::future::pending().await,
                Does::Panics => panic!("a bug in the source"),
            }
        })
    }
}

/// A pipeline and everything around it.
struct Rig {
    authorizer: Authorizer,
    source: Arc<Double>,
    seen: Arc<Mutex<Vec<Observation>>>,
    stop: CancellationToken,
    /// What happens at the next looks at the clock.
    meanwhile: Arc<Mutex<VecDeque<Happens>>>,
}

/// What happens while the pipeline looks at the clock.
type Happens = Option<Box<dyn FnOnce() + Send>>;

impl Rig {
    fn new(settings: Settings) -> Self {
        Self::of(Source::Portal, settings)
    }

    fn of(called: Source, settings: Settings) -> Self {
        let source = Arc::new(Double {
            called,
            does: Mutex::new(says(allow())),
            calls: AtomicUsize::new(0),
        });
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stop, begin) = (CancellationToken::new(), Instant::now());
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let told = Arc::clone(&seen);
        let meanwhile: Arc<Mutex<VecDeque<Happens>>> = Arc::default();
        let looks = Arc::clone(&meanwhile);
        let parts = Parts {
            source: Arc::clone(&source) as Arc<dyn PolicySource>,
            clock: Clock::new(move || {
                let happens = looks.lock().unwrap().pop_front().flatten();
                if let Some(happens) = happens {
                    happens();
                }
                Now {
                    mono: Instant::now().into_std(),
                    wall: wall + begin.elapsed(),
                }
            }),
            observer: Observer::new(move |observation| told.lock().unwrap().push(observation)),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        };
        Self {
            authorizer: Authorizer::new(parts, settings),
            source,
            seen,
            stop,
            meanwhile,
        }
    }

    fn source_does(&self, does: Does) {
        *self.source.does.lock().unwrap() = does;
    }

    fn calls(&self) -> usize {
        self.source.calls.load(Ordering::Relaxed)
    }

    async fn decide(&self, login: &Login) -> Decision {
        self.authorizer.decide(login, Instant::now() + 3 * SECOND).await
    }

    /// Whether `login` is let in, and who says so.
    async fn outcome(&self, login: &Login) -> (bool, Source) {
        let decision = self.decide(login).await;
        (decision.verdict.is_allow(), decision.source)
    }

    /// A login that goes on in the background.
    fn begin(&self, login: &Login) -> tokio::task::JoinHandle<Decision> {
        let (authorizer, login) = (self.authorizer.clone(), login.clone());
        TaskTracker::new().spawn(async move { authorizer.decide(&login, Instant::now() + 3 * SECOND).await })
    }

    /// Opens the breaker with logins of somebody else, and leaves the source gone.
    async fn open_the_breaker(&self) {
        self.source_does(Does::IsGone);
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
        routes: vec!["10.0.0.0/8".to_owned()],
        dns_servers: Vec::new(),
    })
}

fn deny() -> Verdict {
    Verdict::deny(DenyCode::Policy, "not today")
}

fn says(verdict: Verdict) -> Does {
    Does::Says {
        verdict,
        ttl: None,
        after: Duration::ZERO,
    }
}

fn slowly(verdict: Verdict, after: Duration) -> Does {
    Does::Says {
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
