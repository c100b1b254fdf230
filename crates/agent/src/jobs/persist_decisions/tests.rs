use std::fs;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use ocserv_agent_model::{Decision, Source, Username};
use resilience::Records;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use super::*;
use crate::clock;
use crate::fixture::{self, AllowingPortal, login};

const AGENT: &str = "a1";

/// A pipeline and the job that stores its decisions.
struct Harness {
    portal: AllowingPortal,
    authorizer: Authorizer,
    status: StoreStatus,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Harness {
    async fn start(state_dir: &Path) -> Self {
        Self::run(DecisionPersistence::start(state_dir, AGENT)).await
    }

    async fn run(mut persistence: DecisionPersistence) -> Self {
        let portal = AllowingPortal::default();
        let authorizer = fixture::authorizer(portal.clone());
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let status = persistence.status();
        authorizer.await_restore();
        persistence.restore(&authorizer).await;
        tracker.spawn(persistence.run(authorizer.clone(), stop.clone()));
        Self {
            portal,
            authorizer,
            status,
            tracker,
            stop,
        }
    }

    async fn decide(&self, user: &str) -> Decision {
        let deadline = clock::now() + Duration::from_secs(3);
        self.authorizer.decide(&login(1, user), deadline).await
    }

    async fn decide_in_outage(&self, user: &str) -> Decision {
        self.portal.is_down.store(true, Ordering::SeqCst);
        self.decide(user).await
    }

    fn revoke(&self, user: &str) {
        self.authorizer.revoke_user(&Username::parse(user).unwrap(), "");
    }

    async fn wait_until_it_works(&self) {
        while self.status.problem().is_some() {
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn stop(self) -> StoreStatus {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        self.status
    }
}

fn content(state_dir: &Path) -> Records {
    let opened = DecisionStore::open(&state_dir.join(FILE_NAME), AGENT, |aside| {
        panic!("{aside:?}");
    });
    opened.unwrap().records
}

fn users(records: &Records) -> (Vec<&str>, Vec<&str>) {
    let decisions = records.decisions.iter();
    let revocations = records.revocations.iter();
    (
        decisions.map(|record| record.key.username.as_str()).collect(),
        revocations.map(|record| record.username.as_str()).collect(),
    )
}

/// Makes every write to the store fail while it exists: a directory where its temporary file goes.
struct Obstacle(PathBuf);

impl Obstacle {
    fn new(state_dir: &Path) -> Self {
        let path = state_dir.join("decisions.redb.sequence.tmp");
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_failed_is_opened_again_and_gets_everything() {
    let dir = TempDir::new().unwrap();
    let harness = Harness::start(dir.path()).await;
    harness.decide("alice").await;
    harness.status.store_now().await.unwrap();
    assert_eq!(harness.status.problem(), None);
    let obstacle = Obstacle::new(dir.path());
    harness.decide("bob").await;
    assert!(harness.status.store_now().await.is_err());
    assert!(harness.status.problem().is_some());
    // After the failure: a write of the changes since alone would miss bob.
    harness.revoke("alice");
    drop(obstacle);
    harness.wait_until_it_works().await;
    harness.status.store_now().await.unwrap();
    assert!(harness.stop().await.is_complete());
    assert_eq!(users(&content(dir.path())), (vec!["bob"], vec!["alice"]));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_until_the_end_is_not_complete() {
    let dir = TempDir::new().unwrap();
    let harness = Harness::start(dir.path()).await;
    let _obstacle = Obstacle::new(dir.path());
    harness.decide("alice").await;
    assert!(!harness.stop().await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_could_not_be_opened_at_the_start_is_opened_and_restored_later() {
    let dir = TempDir::new().unwrap();
    let (state_dir, elsewhere) = (dir.path().join("state"), dir.path().join("elsewhere"));
    let earlier = Harness::start(&state_dir).await;
    for user in ["alice", "bob", "carol"] {
        earlier.decide(user).await;
    }
    earlier.revoke("carol");
    earlier.stop().await;
    rename(&state_dir, &elsewhere);
    write(&state_dir, b"a file");

    let harness = Harness::start(&state_dir).await;
    assert!(harness.status.problem().is_some());
    harness.revoke("bob");
    assert!(harness.status.store_now().await.is_err());
    fs::remove_file(&state_dir).unwrap();
    rename(&elsewhere, &state_dir);
    harness.wait_until_it_works().await;
    assert_eq!(harness.decide_in_outage("alice").await.source, Source::Stale);
    assert!(harness.decide_in_outage("alice").await.verdict.is_allow());
    for user in ["bob", "carol"] {
        assert!(
            !harness.decide_in_outage(user).await.verdict.is_allow(),
            "{user}: the file has an allow from before the revocation, or the revocation"
        );
    }
    harness.stop().await;
    let (decisions, mut revocations) = (content(&state_dir), content(&state_dir));
    revocations
        .revocations
        .sort_by(|a, b| a.username.cmp(&b.username));
    assert_eq!(users(&decisions).0, ["alice"]);
    assert_eq!(users(&revocations).1, ["bob", "carol"]);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_reported_and_delays_nobody() {
    let dir = TempDir::new().unwrap();
    let mut persistence = DecisionPersistence::start(dir.path(), AGENT);
    // One opens the store at a time.
    if let Disk::Opening(opening) = std::mem::replace(&mut persistence.disk, Disk::Closed) {
        drop(opening.await.unwrap());
    }
    let (respond, disk) = mpsc::channel::<()>();
    let file = persistence.file.clone();
    persistence.disk = Disk::Opening(tokio::task::spawn_blocking(move || {
        disk.recv().unwrap();
        file.open_blocking()
    }));
    // The clock does not advance by itself while the thread works.
    let (harness, ()) = tokio::join!(Harness::run(persistence), tokio::time::advance(DISK_TIMEOUT));
    let problem = harness.status.problem().unwrap();
    assert!(problem.contains("did not respond"), "{problem}");
    harness.revoke("alice");
    harness.status.store_now().await.unwrap_err();
    respond.send(()).unwrap();
    harness.wait_until_it_works().await;
    harness.stop().await;
    assert_eq!(users(&content(dir.path())).1, ["alice"]);
}

#[expect(clippy::disallowed_methods, reason = "a directory of this test")]
fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a file of this test")]
fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
}
