mod answers;
mod limits;
mod stop;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ocserv_agent_model::{Decision, DenyCode, EventKind, Grant, Source, Verdict};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::example;
use crate::ipc_server::{Decide, Deciding};
use crate::metrics::Metrics;
use crate::operations::record_session::SessionRecorder;
use crate::operations::shared_outbox::SharedOutbox;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// A server with a scripted decision behind it.
struct Lab {
    path: PathBuf,
    recorder: Arc<SessionRecorder>,
    outbox: SharedOutbox,
    counts: Arc<Counts>,
    rules: Arc<ArcSwap<Rules>>,
    stop: CancellationToken,
    served: JoinHandle<io::Result<()>>,
    _dir: tempfile::TempDir,
}

struct Setup {
    decide: Decide,
    deadline: Duration,
    max_connections: usize,
}

fn allow() -> Decision {
    Decision {
        verdict: Verdict::Allow(Grant::default()),
        source: Source::Portal,
        age: Duration::ZERO,
        outage: None,
    }
}

/// Lets alice in, keeps everybody else out.
fn at_once() -> Decide {
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

/// Lets everybody in once the gate is open.
fn gated() -> (Decide, watch::Sender<bool>, watch::Receiver<usize>) {
    let (open, gate) = watch::channel(false);
    let (came, waiting) = watch::channel(0);
    let decide: Decide = Arc::new(move |_, _| -> Deciding {
        let mut gate = gate.clone();
        came.send_modify(|n| *n += 1);
        Box::pin(async move {
            gate.wait_for(|open| *open).await.unwrap();
            allow()
        })
    });
    (decide, open, waiting)
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            decide: at_once(),
            deadline: LONG,
            max_connections: 64,
        }
    }
}

fn lab(setup: Setup) -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ipc/s");
    let door = Door::bind(&path, 0o600).unwrap();
    let outbox = SharedOutbox::new(1000);
    let metrics = Metrics::new("a1").unwrap();
    let recorder = Arc::new(SessionRecorder::new("a1", Some(outbox.clone()), metrics.clone()));
    let ocserv = example::ocserv(&dir.path().join("no-ocserv"));
    let parts = Parts {
        decide: setup.decide,
        recorder: Arc::clone(&recorder),
        ocserv,
        metrics,
        recall: None,
    };
    let uid = rustix::process::geteuid().as_raw();
    let rules = Rules {
        deadline: setup.deadline,
        allowed_uids: vec![uid],
    };
    let rules = Arc::new(ArcSwap::from_pointee(rules));
    let max = setup.max_connections;
    let server = Server::new(door, parts, Arc::clone(&rules), max, Handle::current());
    let counts = server.counts();
    let stop = CancellationToken::new();
    let served = TaskTracker::new().spawn(server.serve(stop.clone()));
    Lab {
        path,
        recorder,
        outbox,
        counts,
        rules,
        stop,
        served,
        _dir: dir,
    }
}

impl Lab {
    /// The events so far, as "connect" or "disconnect" and the session's number.
    fn told(&self) -> Vec<String> {
        self.outbox
            .pending()
            .iter()
            .map(|event| match event.kind {
                EventKind::Connected(_) => format!("connect {}", event.id),
                EventKind::Disconnected(_) => format!("disconnect {}", event.id),
            })
            .collect()
    }

    async fn told_when(&self, expected: &[&str]) {
        until(|| self.told() == expected).await;
    }

    async fn drained(self) {
        self.stop.cancel();
        timeout(LONG, self.served)
            .await
            .expect("it ends")
            .unwrap()
            .unwrap();
    }
}

async fn until(mut state: impl FnMut() -> bool) {
    let wait = async {
        while !state() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, wait).await.expect("the state comes");
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

/// Everything that the server says until it closes.
async fn hear(stream: &mut UnixStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let read = timeout(LONG, stream.read_to_end(&mut heard))
        .await
        .expect("the server closes");
    // A reset after the answer is the server's right when it did not want to hear more.
    drop(read);
    heard
}

fn response(heard: &[u8]) -> ipc::Response {
    let body = ipc::FrameDecoder::new()
        .push(heard)
        .expect("a frame")
        .expect("a whole frame");
    ipc::Response::from_json(&body).unwrap()
}

async fn say(path: &Path, bytes: &[u8]) -> ipc::Response {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    response(&hear(&mut stream).await)
}

async fn ask(path: &Path, request: &ipc::Request) -> ipc::Response {
    say(path, &request.to_frame().unwrap()).await
}

fn code(response: &ipc::Response) -> Option<&str> {
    assert_eq!(response.allowed, response.deny_code.is_none());
    response.deny_code.as_deref()
}
