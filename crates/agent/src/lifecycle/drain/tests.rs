use tokio::time::sleep;

use super::*;

/// How a stop ends while the last login takes so long.
async fn stopped(last_login: Duration, deadline: Duration) -> Outcome {
    let running = Running::new(Part::default(), SharedOutbox::new(1));
    let ipc = tokio::task::spawn_local(async move {
        sleep(last_login).await;
        Ok(())
    });
    running.drain(Some(ipc), deadline).await
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stop_waits_as_long_as_a_login_may_take_and_no_longer() {
    let minute = Duration::from_mins(1);
    assert_eq!(stopped(minute, minute).await, Outcome::Drained);
    assert_eq!(stopped(minute, Duration::from_secs(3)).await, Outcome::CutShort);
}
