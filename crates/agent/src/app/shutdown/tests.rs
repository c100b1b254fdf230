use tokio::time::sleep;

use super::*;

/// Whether a shutdown is in time while the last login takes so long.
async fn shuts_down(last_login: Duration, deadline: Duration) -> bool {
    let stages = Stages::default();
    stages.logins.tasks.spawn(sleep(last_login));
    stages.shut_down(deadline).await
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_as_long_as_a_login_may_take_and_no_longer() {
    let minute = Duration::from_mins(1);
    assert!(shuts_down(minute, minute).await);
    assert!(!shuts_down(minute, Duration::from_secs(3)).await);
}
