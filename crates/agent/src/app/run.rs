//! Serving until a signal, then shutting down.

use telemetry::Logs;
use tokio_util::sync::CancellationToken;

use super::build::Agent;
use super::reload::Reloader;
use super::signals::{Request, Signals};
use super::start::{Started, start};
use crate::operations::request_reload::ReloadRequests;

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// Every login was answered, every event is delivered or on disk, every decision stored.
    Drained,
    /// A second signal or the time limit ended the shutdown, or events or decisions could not be
    /// stored.
    CutShort,
    /// The IPC server or another part failed; the rest was shut down in order.
    Failed,
}

impl Agent {
    /// Serves until SIGTERM or SIGINT, then shuts down within `ipc.deadline` and 7 s; a second such
    /// signal ends it at once. SIGHUP reloads; `logs` then changes its level.
    pub(crate) async fn run(self, logs: Option<&Logs>) -> ExitReason {
        let Started {
            stages,
            outbox,
            store,
            ipc_ended,
            mut reloader,
            mut signals,
            lock: _lock,
            mut reloads,
        } = start(self, logs.map(Logs::dropped_lines)).await;
        let failed = serve(
            &ipc_ended,
            &stages.process.failed,
            &mut reloader,
            (&mut signals, &mut reloads),
            logs,
        )
        .await;
        let login = reloader.current().ipc.deadline.0;
        let in_time = tokio::select! {
            in_time = stages.shut_down(login) => in_time,
            signal = signals.stop() => {
                tracing::warn!(signal, "stopping at once");
                false
            }
        };
        let unsaved = outbox.stats().unsaved;
        if unsaved > 0 {
            tracing::error!(
                unsaved,
                "events lost: they were neither delivered nor written to the disk"
            );
        }
        let stored = store.is_none_or(|store| store.is_complete());
        if !stored {
            tracing::error!("decisions and revocations lost: the last ones could not be stored");
        }
        if failed {
            ExitReason::Failed
        } else if in_time && unsaved == 0 && stored {
            ExitReason::Drained
        } else {
            ExitReason::CutShort
        }
    }
}

/// Serves until a signal asks to stop; `true` when the IPC server ended, or a
/// part of the agent panicked, before that.
async fn serve(
    ipc_ended: &CancellationToken,
    panicked: &CancellationToken,
    reloader: &mut Reloader,
    (signals, reloads): (&mut Signals, &mut ReloadRequests),
    logs: Option<&Logs>,
) -> bool {
    loop {
        let request = tokio::select! {
            request = signals.next() => match request {
                Request::Stop(signal) => Err(signal),
                Request::Reload => Ok(None),
            },
            Some(answer) = reloads.recv() => Ok(Some(answer)),
            () = panicked.cancelled() => return true,
            () = ipc_ended.cancelled() => {
                tracing::error!("the IPC server failed: stopping");
                return true;
            }
        };
        let signal = match request {
            Err(signal) => signal,
            // A disk that hangs must not delay a stop.
            Ok(answer) => tokio::select! {
                problems = reloader.reload(logs) => {
                    // Who asked may have gone.
                    let _unread = answer.map(|answer| answer.send(problems));
                    continue;
                }
                signal = signals.stop() => signal,
            },
        };
        tracing::info!(signal, "stopping");
        return false;
    }
}
