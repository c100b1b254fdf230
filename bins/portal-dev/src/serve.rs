//! `serve`: the portal.

mod agent_stream;
mod agents;
mod auth;
mod bounded_map;
mod caller;
mod control_socket;
mod events;
mod fields;
mod journal;
mod journal_entry;
mod policy_watch;
mod session_registry;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ocserv_agent_proto::agent::v1::agent_service_server::AgentServiceServer;
use ocserv_agent_proto::vpn::v1::auth_service_server::AuthServiceServer;
use ocserv_agent_proto::vpn::v1::event_service_server::EventServiceServer;
use tls::ServerTls;
use tls::accept::{Incoming, Settings};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use crate::cli::{self, ServeArgs};
use agent_stream::AgentStreams;
use agents::Agents;
use auth::Auth;
use control_socket::ControlSocket;
use events::Events;
use journal::Journal;
use journal_entry::JournalEntry;
use policy_watch::PolicyWatch;
use session_registry::SessionRegistry;

const SETTINGS: Settings = Settings {
    max_connections: 256,
    handshake_timeout: Duration::from_secs(5),
};
/// Limit for open calls on shutdown, and then for writing the journal.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// A vanished peer is detected after interval and timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    let result = runtime.block_on(serve(args));
    // Open connections have had DRAIN_TIMEOUT to finish.
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
        .context("could not get the listener's address")?;
    let control = bind_control(&args.control);
    let (journal, journal_ended) = Journal::start(&args.events)?;
    let entry = JournalEntry::policy_loaded(&policy.borrow());
    journal.append(entry).await;

    let tracker = TaskTracker::new();
    let token = CancellationToken::new();
    tracker.spawn(stop_on_signal(
        signal(SignalKind::terminate()).context("could not handle SIGTERM")?,
        signal(SignalKind::interrupt()).context("could not handle SIGINT")?,
        token.clone(),
    ));
    let hangup = signal(SignalKind::hangup()).context("could not handle SIGHUP")?;
    tracker.spawn(reload_certificates(hangup, tls.clone(), token.clone()));
    tracker.spawn(policy_watch.run(journal.clone(), token.clone()));

    let sessions = Arc::new(SessionRegistry::new());
    let auth = Auth::new(policy.clone(), Arc::clone(&sessions), journal.clone());
    let events = Events::new(policy, sessions, journal.clone());
    let agents = Arc::new(Agents::default());
    let streams = AgentStreams::new(
        Arc::clone(&agents),
        journal.clone(),
        tracker.clone(),
        token.clone(),
    );
    if let Some(control) = control {
        tracker.spawn(control.serve(agents, tracker.clone(), token.clone()));
    }
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AuthServiceServer<Auth>>().await;
    health.set_serving::<EventServiceServer<Events>>().await;
    health.set_serving::<AgentServiceServer<AgentStreams>>().await;

    let (incoming, accept_loop) = Incoming::new(listener, tls, SETTINGS, &tracker, token.clone());
    tracker.spawn(accept_loop);
    cli::print_stderr(&format!("ready on https://{address}"));
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(health_service)
        .add_service(AuthServiceServer::new(auth))
        .add_service(EventServiceServer::new(events))
        .add_service(AgentServiceServer::new(streams))
        .serve_with_incoming_shutdown(incoming, token.clone().cancelled_owned());
    let drain_timeout = async {
        token.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        result = server => result.context("the server failed")?,
        () = drain_timeout => tracing::warn!("stopped with calls still open after {DRAIN_TIMEOUT:?}"),
    }
    token.cancel();
    tracker.close();
    // A stalled reader of standard output or a dead disk must not block the exit.
    let journal_written = async {
        tracker.wait().await;
        journal.close().await;
        // An error means that the thread has ended as well.
        let _ = journal_ended.await;
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, journal_written)
        .await
        .is_err()
    {
        tracing::warn!("stopped before the journal was written");
    }
    Ok(())
}

/// Binds the control socket; the portal serves without it, too.
fn bind_control(path: &Path) -> Option<ControlSocket> {
    ControlSocket::bind(path)
        .inspect_err(|error| tracing::warn!("\"agents\" and \"action\" do not work: {error:#}"))
        .ok()
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
        // Blocks on three small files; the runtime has a second thread.
        match tls.reload() {
            Ok(loaded) => {
                tracing::info!("certificates reloaded");
                for warning in loaded.warnings {
                    tracing::warn!("{warning}");
                }
            }
            Err(error) => {
                tracing::error!("could not reload the certificates, the old ones stay in use: {error}");
            }
        }
    }
}
