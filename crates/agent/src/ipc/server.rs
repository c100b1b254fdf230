//! The accept loop and its graceful shutdown.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::IpcListener;
use super::confirmation::Confirmation;
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
        let readable = listener.readable()?;
        let connections = TaskTracker::new();
        connections.spawn_on(confirmation.run(), handler.background());
        let mut pause = ACCEPT_PAUSE.0;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = readable.async_io(Interest::READABLE, || listener.accept()) => accepted,
            };
            match accepted {
                Ok(connection) => {
                    pause = ACCEPT_PAUSE.0;
                    connections.spawn(Arc::clone(&handler).handle(connection));
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
        drop(readable);
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
            Ok(connection) => drop(connections.spawn(Arc::clone(handler).handle(connection))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return handler.accept_failed(&error),
        }
    }
}

#[cfg(test)]
mod tests;
