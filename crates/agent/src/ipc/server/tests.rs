mod answers;
mod limits;
mod stop;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ocserv_agent_model::{Decision, DenyCode, EventKind, Grant, Source, Verdict};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::clock;
use crate::fixture::{self, AllowingPortal};
use crate::metrics::Metrics;
use crate::operations::authorize_login::{Decide, DecisionFuture, LoginAuthorizer};
use crate::operations::list_decisions::RecentDecisions;
use crate::operations::record_session::SessionRecorder;
use crate::operations::shared_outbox::SharedOutbox;

/// Longest time that a test waits for a state.
const BOUND: Duration = Duration::from_secs(20);

/// A server whose decisions are made by a test's function.
struct Harness {
    path: PathBuf,
    recorder: Arc<SessionRecorder>,
    events: SharedOutbox,
    metrics: Metrics,
    settings: watch::Sender<DynamicSettings>,
    stop: CancellationToken,
    served: JoinHandle<io::Result<()>>,
    _dir: tempfile::TempDir,
}

struct Setup {
    decide: Decide,
    deadline: Duration,
    max_logins: usize,
}

fn allow() -> Decision {
    Decision {
        verdict: Verdict::Allow(Grant::default()),
        source: Source::Portal,
        age: Duration::ZERO,
        outage: None,
    }
}

/// Allows alice and denies all others.
fn immediate() -> Decide {
    Arc::new(|login, _| {
        let decision = if login.username.as_str() == "alice" {
            allow()
        } else {
            Decision {
                verdict: Verdict::deny(DenyCode::Policy, "not\nyou"),
                ..allow()
            }
        };
        Box::pin(async move { decision })
    })
}

/// Allows every login once `true` is sent; the receiver has the number of logins so far.
fn allow_when_released() -> (Decide, watch::Sender<bool>, watch::Receiver<usize>) {
    let (release, released) = watch::channel(false);
    let (count, logins) = watch::channel(0);
    let decide: Decide = Arc::new(move |_, _| -> DecisionFuture {
        let mut released = released.clone();
        count.send_modify(|count| *count += 1);
        Box::pin(async move {
            released.wait_for(|released| *released).await.unwrap();
            allow()
        })
    });
    (decide, release, logins)
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            decide: immediate(),
            deadline: BOUND,
            max_logins: 64,
        }
    }
}

fn serve(setup: Setup) -> Harness {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ipc/s");
    let listener = IpcListener::bind(&path, 0o600).unwrap();
    let events = SharedOutbox::without_disk();
    let metrics = Metrics::new("a1").unwrap();
    let recorder = Arc::new(SessionRecorder::new("a1", Some(events.clone()), metrics.clone()));
    let ocserv = fixture::ocserv(&dir.path().join("no-ocserv"));
    let (settings, current) = watch::channel(DynamicSettings {
        deadline: setup.deadline,
        allowed_uids: vec![rustix::process::geteuid().as_raw()],
    });
    let dependencies = Dependencies {
        authorizer: LoginAuthorizer::new(setup.decide, Arc::clone(&recorder)),
        recorder: Arc::clone(&recorder),
        ocserv,
        recent: RecentDecisions::new(fixture::authorizer(AllowingPortal::default())),
        events: None,
        metrics: metrics.clone(),
        own_pid: None,
        background: Handle::current(),
    };
    let settings_view = Live::new(move || Arc::new(current.borrow().clone()));
    let server = Server::new(listener, dependencies, settings_view, setup.max_logins);
    let stop = CancellationToken::new();
    let served = TaskTracker::new().spawn(server.serve(stop.clone()));
    Harness {
        path,
        recorder,
        events,
        metrics,
        settings,
        stop,
        served,
        _dir: dir,
    }
}

impl Harness {
    /// The events so far, as "connect" or "disconnect" and the session's id.
    fn events(&self) -> Vec<String> {
        self.events
            .in_memory()
            .iter()
            .map(|event| match event.kind {
                EventKind::Connected(_) => format!("connect {}", event.id),
                EventKind::Disconnected(_) => format!("disconnect {}", event.id),
                EventKind::Updated(_) => format!("update {}", event.id),
            })
            .collect()
    }

    async fn wait_for_events(&self, expected: &[&str]) {
        until(|| self.events() == expected).await;
    }

    async fn shut_down(self) {
        self.stop.cancel();
        timeout(BOUND, self.served)
            .await
            .expect("the server stops")
            .unwrap()
            .unwrap();
    }
}

async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(BOUND, wait).await.expect("the condition becomes true");
}

fn request(reason: &str, user: &str, id: i32) -> ipc::Request {
    ipc::Request {
        reason: reason.to_owned(),
        username: user.to_owned(),
        ip_real: "10.77.0.2".to_owned(),
        session_id: id.to_string(),
        ..ipc::Request::default()
    }
}

/// Reads until the server closes.
async fn read_all(stream: &mut UnixStream) -> Vec<u8> {
    let mut received = Vec::new();
    let read = timeout(BOUND, stream.read_to_end(&mut received))
        .await
        .expect("the server closes");
    // The server may reset the connection after its response when it did not read everything.
    drop(read);
    received
}

fn response(received: &[u8]) -> ipc::Response {
    let body = ipc::FrameDecoder::new()
        .push(received)
        .expect("a frame")
        .expect("a whole frame");
    ipc::Response::from_json(&body).unwrap()
}

async fn send(path: &Path, bytes: &[u8]) -> ipc::Response {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    response(&read_all(&mut stream).await)
}

async fn send_request(path: &Path, request: &ipc::Request) -> ipc::Response {
    send(path, &request.to_frame().unwrap()).await
}

/// Sends a request whose response the test reads later, or never.
async fn start_request(path: &Path, request: &ipc::Request) -> UnixStream {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(&request.to_frame().unwrap()).await.unwrap();
    stream
}

fn deny_code(response: &ipc::Response) -> Option<&str> {
    assert_eq!(response.allowed, response.deny_code.is_none());
    response.deny_code.as_deref()
}

/// The value of `series`, as `/metrics` renders it.
fn metric_value(metrics: &Metrics, series: &str) -> String {
    let text = metrics.registry().render();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_default().trim().to_owned()
}
