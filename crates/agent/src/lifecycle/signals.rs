//! The signals that the agent takes.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Taken from the moment that this exists: before it, a signal has its usual effect.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Stop(&'static str),
    Reload,
}

impl Signals {
    pub(super) fn take() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Wanted {
        let Self {
            terminate,
            interrupt,
            hangup,
        } = self;
        tokio::select! {
            signal = stop(terminate, interrupt) => Wanted::Stop(signal),
            Some(()) = hangup.recv() => Wanted::Reload,
        }
    }

    /// The next one that says stop. A SIGHUP that comes meanwhile is kept for [`Self::next`].
    pub(super) async fn stop(&mut self) -> &'static str {
        stop(&mut self.terminate, &mut self.interrupt).await
    }
}

async fn stop(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        Some(()) = terminate.recv() => "SIGTERM",
        Some(()) = interrupt.recv() => "SIGINT",
        // The runtime's signal driver is gone: no signal will come any more.
        else => std::future::pending().await,
    }
}
