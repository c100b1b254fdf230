use std::sync::Mutex;

use ocserv_agent_model::Username;
use tokio_util::task::TaskTracker;

use super::*;
use crate::clock;
use crate::fixture::{self, AllowingPortal, login};

#[tokio::test(start_paused = true)]
async fn what_could_not_be_written_is_written_once_the_disk_works_again() {
    let authorizer = fixture::authorizer(AllowingPortal::default());
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let tries: Arc<Mutex<Vec<Changes>>> = Arc::default();
    let seen = Arc::clone(&tries);
    let save = move |changes: &Changes| {
        let mut seen = seen.lock().unwrap();
        seen.push(changes.clone());
        if seen.len() < 3 {
            return Err(StoreError::Io(std::io::ErrorKind::StorageFull.into()));
        }
        Ok(())
    };
    tracker.spawn(write(save, authorizer.clone(), stop.clone()));
    let decide = async |user| {
        let by = clock::now() + Duration::from_secs(3);
        authorizer.decide(&login(1, user), by).await
    };
    decide("alice").await;
    decide("bob").await;
    sleep(GATHER * 2).await;
    // Nothing happens any more but that alice is dropped: the copy has to learn of that all the same.
    authorizer.revoke_user(&Username::parse("alice").unwrap(), "");
    sleep(TRY_AGAIN * 5).await;
    let tries: Vec<_> = tries.lock().unwrap().clone();
    assert_eq!(tries.len(), 3, "{tries:?}");
    let Changes::Full(records) = &tries[2] else {
        panic!("{tries:?}")
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
