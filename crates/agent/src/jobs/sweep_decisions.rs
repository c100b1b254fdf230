//! Removes cached decisions that can decide no login any more.

use std::time::Duration;

use authz::Authorizer;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock;

/// Pause between two rounds over all users.
const INTERVAL: Duration = Duration::from_mins(1);
/// Pause between two steps of a round, in which logins have the cache for themselves.
const STEP_INTERVAL: Duration = Duration::from_millis(1);

/// Sweeps the cache of `authorizer` until `stop`.
pub(crate) async fn sweep_decisions(authorizer: Authorizer, stop: CancellationToken) {
    let rounds = async {
        loop {
            clock::tick(INTERVAL).await;
            while authorizer.sweep() {
                sleep(STEP_INTERVAL).await;
            }
        }
    };
    stop.run_until_cancelled(rounds).await;
}
