//! Whether the decisions are on disk: shared by the job that writes them and by who must know.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Longest time that an operation waits until something is stored.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// The state of the decision store; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct StoreStatus(watch::Sender<State>);

#[derive(Debug, Default)]
struct State {
    /// The number of requests to store what has changed.
    requested: u64,
    /// The requests that are done: what had changed before them is on disk.
    stored: u64,
    /// Why nothing can be stored; `None` while the store works.
    problem: Option<String>,
    /// Whether the job has written the last changes and ended.
    complete: bool,
}

/// Why something is not stored. It will be, once the store works.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the decision store does not work: {0}")]
pub(crate) struct NotStored(String);

impl StoreStatus {
    /// Creates the status of a store that works.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State::default()))
    }

    /// Waits until everything that changed before the call is on disk, for at most 2 s.
    ///
    /// # Errors
    /// When the store does not work, or the time is over.
    pub(crate) async fn store_now(&self) -> Result<(), NotStored> {
        let mut request = 0;
        self.0.send_modify(|state| {
            state.requested += 1;
            request = state.requested;
        });
        let mut state = self.0.subscribe();
        let done = state.wait_for(|state| state.stored >= request || state.problem.is_some());
        match timeout(STORE_TIMEOUT, done).await {
            Ok(Ok(state)) if state.stored >= request => Ok(()),
            Ok(Ok(state)) => Err(NotStored(state.problem.clone().unwrap_or_default())),
            // `self` has the sender, so the channel is open.
            Ok(Err(_)) | Err(_) => Err(NotStored(format!("nothing was written within {STORE_TIMEOUT:?}"))),
        }
    }

    /// Returns why nothing can be stored; `None` while the store works.
    pub(crate) fn problem(&self) -> Option<String> {
        self.0.borrow().problem.clone()
    }

    /// Whether the job has ended and everything is on disk.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.borrow().complete
    }

    /// Records that the job has ended and everything is on disk.
    pub(crate) fn set_complete(&self) {
        self.0.send_modify(|state| state.complete = true);
    }

    /// Waits for a request that is not done. For the job.
    pub(crate) async fn requested(&self) {
        let mut state = self.0.subscribe();
        // `self` has the sender, so the channel is open.
        let _open = state.wait_for(|state| state.requested > state.stored).await;
    }

    /// Returns the number of requests. For the job, before it takes the changes.
    pub(crate) fn requests(&self) -> u64 {
        self.0.borrow().requested
    }

    /// Records that the changes before `requests` are on disk; `true` when the store did not work
    /// before.
    pub(crate) fn set_stored(&self, requests: u64) -> bool {
        let mut recovered = false;
        self.0.send_modify(|state| {
            state.stored = requests;
            recovered = state.problem.take().is_some();
        });
        recovered
    }

    /// Records that nothing can be stored; `true` when the store worked before.
    pub(crate) fn set_problem(&self, problem: String) -> bool {
        let mut worked = false;
        self.0
            .send_modify(|state| worked = state.problem.replace(problem).is_none());
        worked
    }
}
