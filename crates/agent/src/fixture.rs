//! Fixtures of unit tests.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authz::{
    Authorizer, CheckFuture, Dependencies, Observer, PolicyAnswer, PolicySource, RateLimits, SourceError,
};
use ocserv::Ocserv;
use ocserv_agent_model::{Grant, Login, OcservId, Source, Username, Verdict};
use resilience::{BreakerSettings, CacheSettings, FailMode, StaleMatch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::metrics::Metrics;
use crate::operations::record_session::SessionRecorder;

/// A login of `user` under `id`; the other fields are arbitrary.
pub(crate) fn login(id: i32, user: &str) -> Login {
    Login {
        username: Username::parse(user).unwrap(),
        group: None,
        client_ip: [192, 0, 2, 1].into(),
        vhost: None,
        id: OcservId::new(id).unwrap(),
        vpn_ip: None,
        device: String::new(),
    }
}

/// The ocserv with the control socket `path`, as server `a1`.
pub(crate) fn ocserv(path: &Path) -> Ocserv {
    Ocserv::new(ocserv::Settings {
        socket: path.to_owned(),
        request_timeout: Duration::from_secs(5),
        agent_id: "a1".to_owned(),
    })
}

/// A recorder without an outbox, for server `a1`.
pub(crate) fn recorder() -> Arc<SessionRecorder> {
    Arc::new(SessionRecorder::new("a1", None, Metrics::new("a1").unwrap()))
}

/// A portal that allows every login while it is reachable.
#[derive(Clone, Default)]
pub(crate) struct AllowingPortal {
    pub(crate) is_down: Arc<AtomicBool>,
}

impl PolicySource for AllowingPortal {
    fn source(&self) -> Source {
        Source::Portal
    }

    fn check<'a>(&'a self, _: &'a Login, _: tokio::time::Instant) -> CheckFuture<'a> {
        let is_down = self.is_down.load(Ordering::SeqCst);
        Box::pin(async move {
            if is_down {
                return Err(SourceError::Outage("down".to_owned()));
            }
            let verdict = Verdict::Allow(Grant::default());
            Ok(PolicyAnswer {
                verdict,
                ttl: None,
                disconnect: false,
            })
        })
    }
}

/// A pipeline in fail mode `open`, with default settings otherwise.
pub(crate) fn authorizer(portal: impl PolicySource) -> Authorizer {
    let dependencies = Dependencies {
        source: Arc::new(portal),
        clock: clock::authz_clock(),
        observer: Observer::new(drop),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    let settings = authz::Settings {
        fail_mode: FailMode::Open,
        source_timeout: Duration::from_secs(2),
        margin: Duration::from_millis(100),
        max_queries: 64,
        breaker: BreakerSettings {
            failure_threshold: 5,
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(30),
            max_requests: 1,
        },
        cache: CacheSettings {
            ttl: Duration::from_mins(5),
            stale_ttl: Duration::from_mins(30),
            deny_ttl: Duration::from_secs(30),
            max_ttl: Duration::from_hours(24),
            max_size: 100,
            max_per_user: 16,
            stale_match: StaleMatch::Exact,
        },
        rates: RateLimits {
            per_user: None,
            per_address: None,
            max_keys: 100,
        },
    };
    Authorizer::new(dependencies, settings)
}
