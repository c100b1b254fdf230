//! The signals that the agent handles.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Receives the signals from its creation on; before that they have their default effect.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// A request made by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Stop(&'static str),
    Reload,
}

impl Signals {
    pub(super) fn register() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next request.
    pub(super) async fn next(&mut self) -> Request {
        let Self {
            terminate,
            interrupt,
            hangup,
        } = self;
        tokio::select! {
            signal = stop(terminate, interrupt) => Request::Stop(signal),
            Some(()) = hangup.recv() => Request::Reload,
        }
    }

    /// The next request to stop. A SIGHUP in the meantime is kept for [`Self::next`].
    pub(super) async fn stop(&mut self) -> &'static str {
        stop(&mut self.terminate, &mut self.interrupt).await
    }
}

async fn stop(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        Some(()) = terminate.recv() => "SIGTERM",
        Some(()) = interrupt.recv() => "SIGINT",
        // The runtime is shutting down: no signal will come.
        else => std::future::pending().await,
    }
}
