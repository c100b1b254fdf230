//! `sessions` and `disconnect` against a stub agent.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use ocserv_agent_proto::agent::v1::vpn_agent_service_server::{VpnAgentService, VpnAgentServiceServer};
use ocserv_agent_proto::agent::v1::{
    DisconnectUserRequest, DisconnectUserResponse, GetActiveSessionsRequest, GetActiveSessionsResponse,
    NotifyConnectRequest, NotifyConnectResponse, NotifyDisconnectRequest, NotifyDisconnectResponse,
    UpdateUserRoutesRequest, UpdateUserRoutesResponse, VpnSession,
};
use support::{Portal, pki, run, stderr};
use tls::accept::{Incoming, Settings};
use tls::{IdentityFiles, ServerTls};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use tonic::{Request, Response, Status};

/// An agent with two sessions of alice. Disconnecting `root` is denied, `busy` unavailable, `half`
/// ends one of two.
struct Stub;

#[tonic::async_trait]
impl VpnAgentService for Stub {
    async fn get_active_sessions(
        &self,
        request: Request<GetActiveSessionsRequest>,
    ) -> Result<Response<GetActiveSessionsResponse>, Status> {
        let filter = request.into_inner().username_filter;
        let session = |id: &str| VpnSession {
            session_id: id.to_owned(),
            username: "alice".to_owned(),
            client_ip: "192.0.2.7".to_owned(),
            vpn_ip: "10.99.0.2".to_owned(),
            connected_at: Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            ..VpnSession::default()
        };
        let sessions = if ["", "alice"].contains(&filter.as_str()) {
            vec![session("101"), session("102")]
        } else {
            Vec::new()
        };
        let total_count = u32::try_from(sessions.len()).unwrap();
        Ok(Response::new(GetActiveSessionsResponse {
            sessions,
            total_count,
        }))
    }

    async fn disconnect_user(
        &self,
        request: Request<DisconnectUserRequest>,
    ) -> Result<Response<DisconnectUserResponse>, Status> {
        let request = request.into_inner();
        assert!(request.disconnect_all_sessions);
        let respond = |success, sessions_disconnected, error_message: &str| {
            Ok(Response::new(DisconnectUserResponse {
                success,
                sessions_disconnected,
                error_message: error_message.to_owned(),
            }))
        };
        match request.username.as_str() {
            "alice" => respond(request.reason == "lunch", 2, ""),
            "half" => respond(false, 1, "ocserv refused"),
            "root" => Err(Status::permission_denied("role viewer")),
            "busy" => Err(Status::unavailable("ocserv does not answer")),
            "gone" => Err(Status::not_found("gone")),
            _ => respond(false, 0, "no session of this user"),
        }
    }

    async fn notify_connect(
        &self,
        _: Request<NotifyConnectRequest>,
    ) -> Result<Response<NotifyConnectResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn notify_disconnect(
        &self,
        _: Request<NotifyDisconnectRequest>,
    ) -> Result<Response<NotifyDisconnectResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn update_user_routes(
        &self,
        _: Request<UpdateUserRoutesRequest>,
    ) -> Result<Response<UpdateUserRoutesResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

struct Agent {
    dir: tempfile::TempDir,
    address: SocketAddr,
    _stop: DropGuard,
}

impl Agent {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki(dir.path());
        let file = |name: &str| dir.path().join(name);
        let files = IdentityFiles {
            ca: file("ca.pem"),
            cert: file("agent.pem"),
            key: file("agent.key"),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
        let settings = Settings {
            max_connections: 8,
            handshake_timeout: Duration::from_secs(5),
        };
        let (incoming, accept_loop) = Incoming::new(
            listener,
            ServerTls::load(files).unwrap(),
            settings,
            &tracker,
            token.clone(),
        );
        tracker.spawn(accept_loop);
        tracker.spawn(
            Server::builder()
                .add_service(VpnAgentServiceServer::new(Stub))
                .serve_with_incoming_shutdown(incoming, token.clone().cancelled_owned()),
        );
        Self {
            dir,
            address,
            _stop: token.drop_guard(),
        }
    }

    /// Runs the program against this agent with the identity of `pki`.
    async fn call_as(&self, pki: &Path, args: &[&str]) -> Output {
        let mut args: Vec<String> = args.iter().map(ToString::to_string).collect();
        args.extend(["--agent".to_owned(), format!("https://{}", self.address)]);
        args.extend([
            "--ca".to_owned(),
            self.dir.path().join("ca.pem").display().to_string(),
        ]);
        args.extend(["--pki".to_owned(), pki.display().to_string()]);
        tokio::task::spawn_blocking(move || run(&args.iter().map(String::as_str).collect::<Vec<_>>()))
            .await
            .unwrap()
    }

    async fn call(&self, args: &[&str]) -> Output {
        self.call_as(self.dir.path(), args).await
    }
}

#[tokio::test]
async fn sessions_are_a_table_or_json() {
    let agent = Agent::start().await;
    let table = agent.call(&["sessions"]).await;
    assert_eq!(table.status.code(), Some(0), "{}", stderr(&table));
    assert_eq!(
        String::from_utf8(table.stdout).unwrap(),
        "ID   USER   FROM       VPN ADDRESS  SINCE                     BYTES IN  BYTES OUT\n\
         101  alice  192.0.2.7  10.99.0.2    2023-11-14T22:13:20.000Z  0         0\n\
         102  alice  192.0.2.7  10.99.0.2    2023-11-14T22:13:20.000Z  0         0\n\
         2 sessions\n"
    );
    let json = agent.call(&["sessions", "--json", "--user", "alice"]).await;
    let rows: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(rows[1]["session_id"], "102");
    assert_eq!(rows[1]["connected_at"], "2023-11-14T22:13:20.000Z");
    let none = agent.call(&["sessions", "--json", "--user", "bob"]).await;
    assert_eq!(
        (none.status.code(), none.stdout.as_slice()),
        (Some(0), &b"[]\n"[..])
    );
}

#[tokio::test]
async fn the_exit_code_of_disconnect_distinguishes_success_no_session_and_failure() {
    let agent = Agent::start().await;
    let done = agent.call(&["disconnect", "alice", "--reason", "lunch"]).await;
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(done.stdout, b"alice: 2 sessions disconnected\n");
    for (user, code, message) in [
        (
            "bob",
            1,
            "portal-dev: bob: nothing was disconnected: no session of this user\n",
        ),
        (
            "gone",
            1,
            "portal-dev: gone: nothing was disconnected: no such session\n",
        ),
        (
            "half",
            2,
            "portal-dev: half: 1 session disconnected, but not all is done: ocserv refused\n",
        ),
    ] {
        let failed = agent.call(&["disconnect", user]).await;
        assert_eq!(
            (failed.status.code(), stderr(&failed).as_str()),
            (Some(code), message)
        );
    }
    for (user, message) in [
        ("root", "[grpc.roles]"),
        ("busy", "is unavailable: ocserv does not answer"),
    ] {
        let failed = agent.call(&["disconnect", user]).await;
        assert_eq!(failed.status.code(), Some(2));
        assert!(stderr(&failed).contains(message), "{}", stderr(&failed));
    }
}

#[tokio::test]
async fn a_failed_connection_is_one_line_with_its_cause() {
    let agent = Agent::start().await;
    let foreign = tempfile::tempdir().unwrap();
    pki(foreign.path());
    let own: PathBuf = agent.dir.path().to_owned();
    let portal = Portal::start("version = 1\n");
    let pki_of_portal = portal.pki();
    let (own, foreign) = (own.to_str().unwrap(), foreign.path().to_str().unwrap());
    let foreign_ca = format!("{foreign}/ca.pem");
    let url = format!("https://{}", agent.address);
    let portal_url = portal.url();
    let cases: [(Vec<&str>, &str); 5] = [
        (
            vec!["--agent", "https://127.0.0.1:1", "--pki", own],
            "connection refused",
        ),
        (
            vec!["--agent", "127.0.0.1:9443", "--pki", own],
            "write it as https://HOST[:PORT]",
        ),
        (
            vec!["--agent", &url, "--pki", own, "--ca", &foreign_ca],
            "was issued by a CA we do not trust",
        ),
        (
            vec!["--agent", &url, "--pki", own, "--server-name", "elsewhere"],
            "and not for elsewhere",
        ),
        (
            vec!["--agent", &portal_url, "--pki", pki_of_portal.to_str().unwrap()],
            "is it an ocserv-agent?",
        ),
    ];
    for (args, why) in cases {
        let args: Vec<String> = ["sessions"].into_iter().chain(args).map(str::to_owned).collect();
        let failed =
            tokio::task::spawn_blocking(move || run(&args.iter().map(String::as_str).collect::<Vec<_>>()))
                .await;
        let failed = failed.unwrap();
        let log = stderr(&failed);
        assert_eq!(failed.status.code(), Some(2), "{log}");
        assert!(log.contains(why) && log.lines().count() == 1, "{log}");
    }
    // An agent reports a refused certificate only after the handshake.
    let foreign = agent.call_as(Path::new(foreign), &["disconnect", "alice"]).await;
    assert_eq!(foreign.status.code(), Some(2));
    assert!(
        stderr(&foreign).contains("it refused our certificate: issued by a CA that it does not trust"),
        "{}",
        stderr(&foreign)
    );
}
