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

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_leaves_time_to_deliver_the_events() {
    let stages = Stages::default();
    stages.storage.tasks.spawn(std::future::pending::<()>());
    let stop = stages.delivery.stop.clone();
    let delivered = stages.delivery.tasks.spawn(async move {
        stop.cancelled().await;
        sleep(Duration::from_secs(3)).await;
    });
    assert!(stages.shut_down(Duration::ZERO).await);
    assert!(delivered.is_finished());
}

#[tokio::test]
async fn a_task_that_panics_fails_the_process_and_one_that_ends_does_not() {
    let stages = Stages::default();
    stages.calls.spawn_until_stop(async {});
    stages.calls.tasks.close();
    stages.calls.tasks.wait().await;
    assert!(!stages.process.failed.is_cancelled());
    stages
        .storage
        .spawn_on(&Handle::current(), async { panic!("a bug") });
    stages.process.failed.cancelled().await;
    assert!(stages.shut_down(Duration::ZERO).await, "the rest ends in order");
}
