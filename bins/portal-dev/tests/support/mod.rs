//! The program as a child process, and clients.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here is a failed test"
)]
#![expect(dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ocserv_agent_proto::vpn::v1::auth_service_client::AuthServiceClient;
use ocserv_agent_proto::vpn::v1::event_service_client::EventServiceClient;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tls::{Identity, IdentityFiles};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

/// Longer than anything here takes.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) fn portal_dev() -> Command {
    Command::new(env!("CARGO_BIN_EXE_portal-dev"))
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    portal_dev().args(args).output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Creates a PKI with the program.
pub(crate) fn pki(dir: &Path) {
    let output = run(&["pki", dir.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
}

pub(crate) fn identity(pki: &Path, name: &str) -> Identity {
    Identity::load(&IdentityFiles {
        ca: pki.join("ca.pem"),
        cert: pki.join(format!("{name}.pem")),
        key: pki.join(format!("{name}.key")),
    })
    .unwrap()
}

/// A portal that serves; it is killed when dropped.
pub(crate) struct Portal {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    child: Child,
    log: Receiver<String>,
}

impl Portal {
    /// Starts with this policy and new certificates.
    pub(crate) fn start(policy: &str) -> Self {
        Self::start_with(policy, "events.jsonl")
    }

    /// Starts with this policy and this events file.
    pub(crate) fn start_with(policy: &str, events: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki(&dir.path().join("pki"));
        std::fs::write(dir.path().join("policy.toml"), policy).unwrap();
        Self::serve(dir, events)
    }

    /// Starts again in the same directory, after its exit.
    pub(crate) fn restart(&mut self) {
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        *self = Self::serve(dir, "events.jsonl");
    }

    fn serve(dir: tempfile::TempDir, events: &str) -> Self {
        let mut child = portal_dev()
            .current_dir(dir.path())
            .args(["serve", "--listen", "127.0.0.1:0", "--pki", "pki"])
            .args(["--policy", "policy.toml", "--events", events])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| lines.send(line))
        });
        let mut portal = Self {
            dir,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            child,
            log,
        };
        let ready = portal.wait_for_log("portal-dev: ready on https://");
        portal.address = ready.rsplit_once('/').unwrap().1.parse().unwrap();
        portal
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.dir.path().join("pki")
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Waits for a log line that contains `text`; skips the lines before it.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        let until = Instant::now() + BOUND;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self
                .log
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("{text:?} was never logged"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Replaces the policy atomically.
    pub(crate) fn set_policy(&self, policy: &str) {
        let fresh = self.dir.path().join("policy.new");
        std::fs::write(&fresh, policy).unwrap();
        std::fs::rename(fresh, self.dir.path().join("policy.toml")).unwrap();
    }

    /// Returns the lines of JSON so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("events.jsonl")).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits for `count` lines of a kind and returns them.
    pub(crate) async fn wait_for_events(&self, kind: &str, count: usize) -> Vec<Value> {
        let until = Instant::now() + BOUND;
        loop {
            let found: Vec<Value> = self
                .events()
                .into_iter()
                .filter(|event| event["kind"] == kind)
                .collect();
            if found.len() >= count {
                return found;
            }
            assert!(
                Instant::now() < until,
                "never {count} of {kind}: {:?}",
                self.events()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the policy of this version is in effect; returns the versions that have been, in
    /// order.
    pub(crate) async fn wait_for_policy(&self, version: &str) -> Vec<String> {
        let mut count = 1;
        loop {
            let loaded = self.wait_for_events("policy_loaded", count).await;
            let versions: Vec<String> = loaded
                .iter()
                .map(|line| line["policy_version"].as_str().unwrap().to_owned())
                .collect();
            if versions.last().is_some_and(|last| last == version) {
                return versions;
            }
            count = versions.len() + 1;
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the exit and returns the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let until = Instant::now() + BOUND;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "portal-dev never ended");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Connects with the agent's certificate.
    pub(crate) async fn client(&self) -> Client {
        let config = identity(&self.pki(), "agent").client_config().unwrap();
        Client::connect(self.address, config)
            .await
            .expect("no connection")
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to a portal; its task ends with it.
pub(crate) struct Client {
    pub(crate) auth: AuthServiceClient<Sender>,
    pub(crate) events: EventServiceClient<Sender>,
    pub(crate) sender: Sender,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> Result<Self, String> {
        let tcp = TcpStream::connect(address)
            .await
            .map_err(|error| error.to_string())?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .map_err(|error| tls::explain(&error))?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        // The runtime of the test owns it.
        TaskTracker::new().spawn(connection);
        let sender = Sender(sender);
        let origin = http::Uri::from_static("https://localhost");
        Ok(Self {
            auth: AuthServiceClient::with_origin(sender.clone(), origin.clone()),
            events: EventServiceClient::with_origin(sender.clone(), origin),
            sender,
        })
    }
}

#[derive(Clone)]
pub(crate) struct Sender(SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for Sender {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
