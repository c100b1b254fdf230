//! Announces the end of switches that hold for a time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::operations::runtime_switches::RuntimeSwitches;

/// Time between two looks at a switch. It ends by itself; only the announcement waits.
const INTERVAL: Duration = Duration::from_secs(5);

/// Announces switches that have ended until `stop`. Wakes only while a switch holds.
pub(crate) async fn announce_switches(switches: RuntimeSwitches, stop: CancellationToken) {
    let watch = async {
        loop {
            switches.changed().await;
            while switches.announce_ended() {
                clock::tick(INTERVAL).await;
            }
        }
    };
    let _stopped = stop.run_until_cancelled(watch).await;
}
