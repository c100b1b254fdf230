//! `serve`: the portal itself.

mod auth;
mod connection;
mod events;
mod journal;
mod known;
mod policy_watch;
mod recent;
mod record;
mod request;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ocserv_agent_proto::vpn::v1::auth_service_server::AuthServiceServer;
use ocserv_agent_proto::vpn::v1::event_service_server::EventServiceServer;
use tls::ServerTls;
use tls::accept::{Incoming, Settings};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use crate::cli::{self, ServeArgs};
use auth::Auth;
use connection::Connection;
use events::Events;
use journal::Journal;
use known::KnownSessions;
use policy_watch::PolicyWatch;
use record::What;

const SETTINGS: Settings = Settings {
    max_connections: 256,
    handshake_timeout: Duration::from_secs(5),
};
/// How long calls that are under way, and then lines that are not yet written, may take when the portal stops.
const DRAIN: Duration = Duration::from_secs(3);
/// A peer that vanished is noticed after these two.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    let result = runtime.block_on(serve(args));
    // Whoever still holds a connection has had the time to finish.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let tls = ServerTls::load(args.identity.files("portal")?)?;
    for warning in tls.status().warnings {
        tracing::warn!("{warning}");
    }
    let (policy_watch, policy) = PolicyWatch::open(&args.policy)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("could not listen on {}", args.listen))?;
    let address = listener
        .local_addr()
        .context("could not learn the address listened on")?;
    let (journal, journal_end) = Journal::start(&args.events)?;
    journal.note(What::loaded(&policy.borrow().clone())).await;

    let tracker = TaskTracker::new();
    let token = CancellationToken::new();
    tracker.spawn(stop_on_signal(
        signal(SignalKind::terminate()).context("could not watch for SIGTERM")?,
        signal(SignalKind::interrupt()).context("could not watch for SIGINT")?,
        token.clone(),
    ));
    let hangup = signal(SignalKind::hangup()).context("could not watch for SIGHUP")?;
    tracker.spawn(reload_certificates(hangup, tls.clone(), token.clone()));
    tracker.spawn(policy_watch.run(journal.clone(), token.clone()));

    let known = Arc::new(KnownSessions::new());
    let auth = Auth::new(policy.clone(), Arc::clone(&known), journal.clone());
    let events = Events::new(policy, known, journal.clone());
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AuthServiceServer<Auth>>().await;
    health.set_serving::<EventServiceServer<Events>>().await;

    let incoming = Incoming::start(listener, tls, SETTINGS, &tracker, token.clone());
    cli::complain(&format!("ready on https://{address}"));
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(health_service)
        .add_service(AuthServiceServer::new(auth))
        .add_service(EventServiceServer::new(events))
        .serve_with_incoming_shutdown(
            incoming.map(|conn| conn.map(Connection)),
            token.clone().cancelled_owned(),
        );
    let late = async {
        token.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        ended = server => ended.context("the server failed")?,
        () = late => tracing::warn!("stopped with calls still under way after {DRAIN:?}"),
    }
    token.cancel();
    tracker.close();
    // A reader of standard output that stalls, or a policy on a dead disk, must not keep the portal from ending.
    let written = async {
        tracker.wait().await;
        journal.end().await;
        // An error means that the thread has ended, which is what is waited for.
        let _ = journal_end.await;
    };
    if tokio::time::timeout(DRAIN, written).await.is_err() {
        tracing::warn!("stopped before the last lines were written");
    }
    Ok(())
}

async fn stop_on_signal(mut terminate: Signal, mut interrupt: Signal, token: CancellationToken) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = token.cancelled() => return,
    }
    tracing::info!("stopping");
    token.cancel();
}

async fn reload_certificates(mut hangup: Signal, tls: ServerTls, token: CancellationToken) {
    while let Some(Some(())) = token.run_until_cancelled(hangup.recv()).await {
        // Three small files: the runtime has another thread for whoever waits.
        match tls.reload() {
            Ok(loaded) => {
                tracing::info!("certificates read again");
                for warning in loaded.warnings {
                    tracing::warn!("{warning}");
                }
            }
            Err(error) => tracing::error!("the old certificates stay in use: {error}"),
        }
    }
}
