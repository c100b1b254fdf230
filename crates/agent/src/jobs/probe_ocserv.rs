//! Probes ocserv's control socket, so that an outage is visible between logins.

use std::time::Duration;

use ocserv::Ocserv;
use ocserv_agent_model::error_chain;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::operations::notifications::Notifications;

/// Time between two probes. One costs ocserv far less than a millisecond.
const INTERVAL: Duration = if cfg!(test) {
    Duration::from_millis(10)
} else {
    Duration::from_secs(10)
};

/// Probes `ocserv` until `stop`, and logs and announces changes. The observer of its requests
/// counts the probes.
pub(crate) async fn probe_ocserv(ocserv: Ocserv, notifications: Notifications, stop: CancellationToken) {
    let mut is_up = true;
    let probe = async || {
        clock::tick(INTERVAL).await;
        ocserv.status().await
    };
    while let Some(status) = stop.run_until_cancelled(probe()).await {
        match &status {
            Err(error) if is_up => {
                let error = error_chain(error);
                tracing::warn!(error, "ocserv's control socket is unavailable");
                notifications.ocserv_down(&error);
            }
            Ok(_) if !is_up => {
                tracing::info!("ocserv's control socket recovered");
                notifications.ocserv_up();
            }
            Ok(_) | Err(_) => {}
        }
        is_up = status.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use testkit::fake_control::{FakeControl, Fault, command};
    use testkit::wait::{BOUND, until};

    use super::*;
    use crate::fixture;

    #[tokio::test]
    async fn ocserv_is_probed_again_after_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeControl::start(&dir.path().join("occtl.sock")).unwrap();
        fake.set_fault(Some(Fault::Refuse));
        let stop = CancellationToken::new();
        let ocserv = fixture::ocserv(fake.path());
        let probed = tokio::task::spawn_blocking(move || {
            until("three probes", BOUND, || {
                (fake.count(command::STATUS) >= 3).then_some(())
            })
        });
        let stop_once_probed = async {
            probed.await.unwrap().unwrap();
            stop.cancel();
        };
        tokio::join!(
            stop_once_probed,
            probe_ocserv(ocserv, Notifications::default(), stop.clone())
        );
    }
}
