use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use testkit::pki::Pki;
use testkit::wait::BOUND;
use tls::{IdentityFiles, Peer};
use tokio::time::timeout;
use tonic::{Code, Request};
use tracing::span;

use super::call::Call;
use super::*;
use crate::fixture::{self, AllowingPortal};
use crate::live::Live;

fn request(names: &[&str]) -> Request<()> {
    let names = names.iter().map(|name| name.parse().unwrap()).collect();
    let mut request = Request::new(());
    request.extensions_mut().insert(Arc::new(Peer {
        names,
        common_name: Some("operator.example".into()),
    }));
    request
}

fn authorized(required: Role, request: &Request<()>) -> Result<(), (Code, String)> {
    let roles = Roles::new(Live::fixed(BTreeMap::from([
        ("viewer.example".parse().unwrap(), Role::Viewer),
        ("operator.example".parse().unwrap(), Role::Operator),
    ])));
    let call = Call::authorize("Test", required, &roles, request);
    call.map(|_| ())
        .map_err(|status| (status.code(), status.message().to_owned()))
}

#[test]
fn a_call_needs_the_role_and_the_denial_names_it() {
    assert_eq!(authorized(Role::Viewer, &request(&["viewer.example"])), Ok(()));
    assert_eq!(authorized(Role::Viewer, &request(&["operator.example"])), Ok(()));
    assert_eq!(
        authorized(Role::Operator, &request(&["operator.example"])),
        Ok(())
    );
    let (code, message) = authorized(Role::Operator, &request(&["viewer.example"])).unwrap_err();
    assert_eq!(code, Code::PermissionDenied);
    assert_eq!(message, "viewer.example has the role viewer; Test needs operator");
    let (code, message) = authorized(Role::Viewer, &request(&["stranger.example"])).unwrap_err();
    assert_eq!(code, Code::PermissionDenied);
    assert_eq!(
        message,
        "no name in the certificate of stranger.example has a role in grpc.roles"
    );
}

#[test]
fn a_request_without_a_peer_is_denied() {
    let (code, _) = authorized(Role::Viewer, &Request::new(())).unwrap_err();
    assert_eq!(code, Code::PermissionDenied);
}

/// Panics at each log line of the accept loop.
struct PanickingLog;

impl tracing::Subscriber for PanickingLog {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("tls::accept")
    }

    fn event(&self, _: &tracing::Event<'_>) {
        panic!("a bug in the accept loop");
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// A listener on which every accept fails at once: it is a connection with unread bytes.
fn failing_listener() -> RetryingListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (connection, _) = listener.accept().unwrap();
    client.write_all(b"unread").unwrap();
    connection.set_nonblocking(true).unwrap();
    RetryingListener::bound(OwnedFd::from(connection).into())
}

fn server(listener: RetryingListener, dir: &std::path::Path) -> Server {
    tls::install_provider();
    let issued = Pki::create(dir).unwrap().agent().unwrap();
    let files = IdentityFiles {
        ca: issued.ca,
        cert: issued.cert,
        key: issued.key,
    };
    let settings = Settings {
        max_connections: 8,
        handshake_timeout: BOUND,
    };
    let roles = Roles::new(Live::fixed(BTreeMap::new()));
    Server::new(listener, ServerTls::load(files).unwrap(), roles, settings)
}

#[tokio::test]
async fn a_panic_in_the_accept_loop_is_a_panic_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let ocserv = fixture::ocserv(&dir.path().join("occtl.sock"));
    let authorizer = fixture::authorizer(AllowingPortal::default());
    let operations = Operations::new(&ocserv, &fixture::recorder(), &authorizer, None);
    let server = server(failing_listener(), dir.path());
    let _log = tracing::subscriber::set_default(PanickingLog);
    let serve = server.serve(operations, TaskTracker::new(), CancellationToken::new());
    let ended = timeout(BOUND, AssertUnwindSafe(serve).catch_unwind()).await;
    assert!(
        ended.expect("it ends").is_err(),
        "the server ended without a panic"
    );
}
