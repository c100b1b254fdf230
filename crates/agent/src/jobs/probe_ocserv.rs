//! Probes ocserv, so that an outage shows between logins too.

use std::time::Duration;

use ocserv::Ocserv;
use ocserv_agent_model::error_chain;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Pause between two probes. ocserv answers one in far less than a millisecond of its time.
const INTERVAL: Duration = if cfg!(test) {
    Duration::from_millis(10)
} else {
    Duration::from_secs(10)
};

/// Probes `ocserv` until `stop` and logs changes; the observer of its requests counts them.
pub(crate) async fn probe_ocserv(ocserv: Ocserv, stop: CancellationToken) {
    let mut is_up = true;
    let probe = async || {
        sleep(INTERVAL).await;
        ocserv.status().await
    };
    while let Some(status) = stop.run_until_cancelled(probe()).await {
        match &status {
            Err(error) if is_up => {
                let error = error_chain(error);
                tracing::warn!(error, "ocserv does not answer on its control socket");
            }
            Ok(_) if !is_up => tracing::info!("ocserv answers again on its control socket"),
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
    async fn ocserv_is_probed_again_whether_or_not_it_answers() {
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
        let stopping = async {
            probed.await.unwrap().unwrap();
            stop.cancel();
        };
        tokio::join!(stopping, probe_ocserv(ocserv, stop.clone()));
    }
}
