//! Whether ocserv answers: asked now and then, so that it shows although nobody logs in.

use std::time::Duration;

use occtl::ControlSocket;
use ocserv_agent_model::error_chain;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often ocserv is asked. It answers in far less than a millisecond of its time.
const EVERY: Duration = if cfg!(test) {
    Duration::from_millis(10)
} else {
    Duration::from_secs(10)
};

/// Asks over `control` until `stop`. Who counts is the socket's observer; the log has the changes.
pub(crate) async fn feel_pulse(control: ControlSocket, stop: CancellationToken) {
    let mut is_up = true;
    let ask = async || {
        sleep(EVERY).await;
        control.status().await
    };
    while let Some(answer) = stop.run_until_cancelled(ask()).await {
        match &answer {
            Err(error) if is_up => {
                tracing::warn!(
                    error = error_chain(error),
                    "ocserv does not answer on its control socket"
                );
            }
            Ok(_) if !is_up => tracing::info!("ocserv answers again on its control socket"),
            Ok(_) | Err(_) => {}
        }
        is_up = answer.is_ok();
    }
}
