//! The accept loop and its graceful shutdown.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::IpcListener;
use super::confirmation::Confirmation;
use super::connection::Connection;
use super::handler::{Dependencies, DynamicSettings, RequestHandler};
use crate::live::Live;

/// First and longest pause after a failed accept.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The server of the IPC socket.
pub(crate) struct Server {
    listener: IpcListener,
    handler: Arc<RequestHandler>,
    confirmation: Confirmation,
}

impl Server {
    /// Creates a server on `listener` for at most `max_logins` logins in progress, and as many
    /// connections without a request.
    #[must_use]
    pub(crate) fn new(
        listener: IpcListener,
        dependencies: Dependencies,
        settings: Live<DynamicSettings>,
        max_logins: usize,
    ) -> Self {
        let (handler, confirmation) = RequestHandler::new(dependencies, settings, max_logins);
        Self {
            listener,
            handler: Arc::new(handler),
            confirmation,
        }
    }

    /// Serves until `stop`. Then responds to every connection in the backlog, removes the socket
    /// unless systemd holds it, and returns once the last response is written and the sessions of
    /// all allows are registered.
    ///
    /// # Errors
    /// When the runtime cannot register the socket.
    pub(crate) async fn serve(self, stop: CancellationToken) -> io::Result<()> {
        let Self {
            listener,
            handler,
            confirmation,
        } = self;
        let incoming = UnixListener::from_std(listener.try_clone()?)?;
        let connections = TaskTracker::new();
        connections.spawn_on(confirmation.run(), handler.background());
        let mut pause = ACCEPT_PAUSE.0;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = incoming.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    pause = ACCEPT_PAUSE.0;
                    start(&handler, Connection::new(stream), &connections);
                }
                Err(error) => {
                    handler.accept_failed(&error);
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(ACCEPT_PAUSE.1),
                    }
                }
            }
        }
        drop(incoming);
        if !listener.is_inherited() {
            // Connections made before the unlink are served, later ones are refused. (On systemd's
            // socket they wait in the backlog for the next agent.)
            accept_backlog(&listener, &handler, &connections);
            listener.unlink();
            accept_backlog(&listener, &handler, &connections);
        }
        drop(listener);
        // The confirmation task ends when the last sender is dropped.
        drop(handler);
        connections.close();
        connections.wait().await;
        Ok(())
    }
}

/// Accepts every connection in the backlog.
fn accept_backlog(listener: &IpcListener, handler: &Arc<RequestHandler>, connections: &TaskTracker) {
    loop {
        match listener.accept() {
            Ok(connection) => start(handler, connection, connections),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return handler.accept_failed(&error),
        }
    }
}

/// Starts to handle a connection. Polls it once inline: a login with a cached decision completes in
/// that poll and needs no task (`docs/decisions/0010-login-thread.md`).
fn start(handler: &Arc<RequestHandler>, connection: Connection, connections: &TaskTracker) {
    let mut handling = Box::pin(Arc::clone(handler).handle(connection));
    let first_poll = || handling.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    match catch_unwind(AssertUnwindSafe(first_poll)) {
        Ok(Poll::Ready(())) => {}
        // The task polls again before it waits, so no wake-up is lost to the no-op waker.
        Ok(Poll::Pending) => drop(connections.spawn(handling)),
        // As with a panic in a task, other connections are not affected. The panic message is on
        // standard error.
        Err(_) => tracing::error!("the handler of a connection on the IPC socket panicked"),
    }
}

#[cfg(test)]
mod tests;
