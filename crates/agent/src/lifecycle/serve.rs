//! Serving until a signal says stop.

use std::io;

use telemetry::Logs;
use tokio::task::{JoinError, JoinHandle};

use super::Outcome;
use super::build::Agent;
use super::reload::Reloader;
use super::signals::{Signals, Wanted};
use super::start::{Started, start};

/// Why serving ends.
enum End {
    /// A signal said so.
    Asked,
    /// The IPC server is gone, and with it what the agent is for.
    Failed,
}

impl Agent {
    /// Serves until SIGTERM or SIGINT, then drains within `ipc.deadline` and 7 s; a second such signal ends it at once.
    /// SIGHUP reads the configuration and the certificates again, `logs` being what changes its level.
    pub async fn run(self, logs: Option<&Logs>) -> Outcome {
        let Started {
            running,
            mut ipc,
            mut reloader,
            mut signals,
        } = start(self).await;
        let end = serve(&mut ipc, &mut reloader, &mut signals, logs).await;
        let ipc = match end {
            End::Asked => Some(ipc),
            End::Failed => None,
        };
        let outcome = tokio::select! {
            outcome = running.drain(ipc, reloader.config.ipc.deadline.0) => outcome,
            signal = signals.stop() => {
                tracing::warn!(signal, "stopping at once");
                Outcome::CutShort
            }
        };
        match end {
            End::Asked => outcome,
            End::Failed => Outcome::Failed,
        }
    }
}

async fn serve(
    ipc: &mut JoinHandle<io::Result<()>>,
    reloader: &mut Reloader,
    signals: &mut Signals,
    logs: Option<&Logs>,
) -> End {
    loop {
        let signal = tokio::select! {
            wanted = signals.next() => match wanted {
                Wanted::Stop(signal) => signal,
                // Files may be on a disk that hangs: that must not keep a stop from being heard.
                Wanted::Reload => tokio::select! {
                    () = reloader.reload(logs) => continue,
                    signal = signals.stop() => signal,
                },
            },
            ended = &mut *ipc => {
                tracing::error!(error = why(ended), "the IPC server failed: stopping");
                return End::Failed;
            }
        };
        tracing::info!(signal, "stopping");
        return End::Asked;
    }
}

fn why(ended: Result<io::Result<()>, JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "it ended".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}
