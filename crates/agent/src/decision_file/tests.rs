use std::sync::Mutex;

use authz::{CheckFuture, Dependencies, Observer, PolicyAnswer, PolicySource};
use ocserv_agent_model::{Login, Source, Username, Verdict};
use tokio_util::task::TaskTracker;

use super::*;
use crate::clock;
use crate::config::tests::{ConfigDir, MINIMAL};
use crate::example::login;
use crate::pipeline;

struct Yes;

impl PolicySource for Yes {
    fn source(&self) -> Source {
        Source::Portal
    }

    fn check<'a>(&'a self, _: &'a Login, _: tokio::time::Instant) -> CheckFuture<'a> {
        let verdict = Verdict::Allow(ocserv_agent_model::Grant::default());
        Box::pin(async { Ok(PolicyAnswer { verdict, ttl: None }) })
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_written_is_written_once_the_disk_works_again() {
    let place = ConfigDir::new();
    let config = crate::config::load(&place.write(MINIMAL), []).unwrap();
    let dependencies = Dependencies {
        source: Arc::new(Yes),
        clock: pipeline::clock(),
        observer: Observer::new(drop),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    let authorizer = Authorizer::new(dependencies, pipeline::settings(&config));
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
