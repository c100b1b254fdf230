//! What tests are about.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authz::{Authorizer, CheckFuture, Dependencies, Observer, PolicyAnswer, PolicySource, SourceError};
use ocserv::Ocserv;
use ocserv_agent_model::{Grant, Login, OcservId, Source, Username, Verdict};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::tests::{ConfigDir, MINIMAL};
use crate::metrics::Metrics;
use crate::operations::record_session::SessionRecorder;
use crate::pipeline;

/// A login of this user, with this id, and nothing else that matters.
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

/// The ocserv whose control socket is at `path`, as server `a1`.
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
            Ok(PolicyAnswer { verdict, ttl: None })
        })
    }
}

/// A pipeline in fail mode `open`.
pub(crate) fn authorizer(portal: AllowingPortal) -> Authorizer {
    let directory = ConfigDir::new();
    let config = crate::config::load(&directory.write(MINIMAL), []).unwrap();
    let settings = authz::Settings {
        fail_mode: resilience::FailMode::Open,
        ..pipeline::settings(&config)
    };
    let dependencies = Dependencies {
        source: Arc::new(portal),
        clock: pipeline::clock(),
        observer: Observer::new(drop),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    Authorizer::new(dependencies, settings)
}
