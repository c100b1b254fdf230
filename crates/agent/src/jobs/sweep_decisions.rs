//! Removes cached decisions that can decide no login any more.

use std::time::Duration;

use authz::Authorizer;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Pause between two rounds over all users.
const INTERVAL: Duration = Duration::from_mins(1);
/// Pause between two steps of a round, in which logins have the cache for themselves.
const STEP_INTERVAL: Duration = Duration::from_millis(1);

/// Sweeps the cache of `authorizer` until `stop`.
pub(crate) async fn sweep_decisions(authorizer: Authorizer, stop: CancellationToken) {
    let mut pause = INTERVAL;
    while stop.run_until_cancelled(sleep(pause)).await.is_some() {
        pause = if authorizer.sweep() {
            STEP_INTERVAL
        } else {
            INTERVAL
        };
    }
}
