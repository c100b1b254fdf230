use std::sync::Mutex;

use ocserv_agent_model::Username;
use tokio_util::task::TaskTracker;

use super::*;
use crate::clock;
use crate::fixture::{self, AllowingPortal, login};

#[tokio::test(start_paused = true)]
async fn changes_that_could_not_be_written_are_written_by_a_retry() {
    let authorizer = fixture::authorizer(AllowingPortal::default());
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let attempts: Arc<Mutex<Vec<Changes>>> = Arc::default();
    let recorded = Arc::clone(&attempts);
    let save = move |changes: &Changes| {
        let mut attempts = recorded.lock().unwrap();
        attempts.push(changes.clone());
        if attempts.len() < 3 {
            return Err(StoreError::Io(std::io::ErrorKind::StorageFull.into()));
        }
        Ok(())
    };
    tracker.spawn(write_changes(save, authorizer.clone(), stop.clone()));
    let decide = async |user| {
        let deadline = clock::now() + Duration::from_secs(3);
        authorizer.decide(&login(1, user), deadline).await
    };
    decide("alice").await;
    decide("bob").await;
    sleep(BATCH_INTERVAL * 2).await;
    // The only change after the failure; the retry must write it too.
    authorizer.revoke_user(&Username::parse("alice").unwrap(), "");
    sleep(RETRY_INTERVAL * 5).await;
    let attempts: Vec<_> = attempts.lock().unwrap().clone();
    assert_eq!(attempts.len(), 3, "{attempts:?}");
    let Changes::Full(records) = &attempts[2] else {
        panic!("{attempts:?}")
    };
    let users: Vec<_> = records
        .decisions
        .iter()
        .map(|record| record.key.username.as_str())
        .collect();
    assert_eq!(users, ["bob"]);
    assert_eq!(records.revocations.len(), 1);
    stop.cancel();
    tracker.close();
    tracker.wait().await;
}
