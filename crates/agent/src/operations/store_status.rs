//! Whether a store's content is on disk: shared by the job that writes it and by who must know.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::clock;

/// Longest time that an operation waits until something is stored.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// The state of a store; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct StoreStatus {
    /// What the store is, for people.
    name: &'static str,
    state: watch::Sender<State>,
}

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
#[error("{name} does not work: {problem}")]
pub(crate) struct NotStored {
    name: &'static str,
    problem: String,
}

impl StoreStatus {
    /// Creates the status of a store that works; `name` is what it is, for people.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            state: watch::Sender::new(State::default()),
        }
    }

    /// Waits until everything that changed before the call is on disk, for at most 2 s.
    ///
    /// # Errors
    /// When the store does not work, or the time is over.
    pub(crate) async fn store_now(&self) -> Result<(), NotStored> {
        self.stored(self.request(), clock::now() + STORE_TIMEOUT).await
    }

    /// Requests that everything that has changed is stored; returns the request's number.
    pub(crate) fn request(&self) -> u64 {
        let mut request = 0;
        self.state.send_modify(|state| {
            state.requested += 1;
            request = state.requested;
        });
        request
    }

    /// Waits until a request is done, at most until `by`.
    ///
    /// # Errors
    /// When the store does not work, or the time is over.
    pub(crate) async fn stored(&self, request: u64, by: Instant) -> Result<(), NotStored> {
        let mut state = self.state.subscribe();
        let done = state.wait_for(|state| state.stored >= request || state.problem.is_some());
        let problem = match timeout_at(by, done).await {
            Ok(Ok(state)) if state.stored >= request => return Ok(()),
            Ok(Ok(state)) => state.problem.clone().unwrap_or_default(),
            // `self` has the sender, so the channel is open.
            Ok(Err(_)) | Err(_) => "nothing was written in time".to_owned(),
        };
        let name = self.name;
        Err(NotStored { name, problem })
    }

    /// Returns why nothing can be stored; `None` while the store works.
    pub(crate) fn problem(&self) -> Option<String> {
        self.state.borrow().problem.clone()
    }

    /// Returns what does not work and why, for people.
    pub(crate) fn failure(&self) -> Option<String> {
        let problem = self.problem()?;
        Some(format!("{} does not work: {problem}", self.name))
    }

    /// Whether the job has ended and everything is on disk.
    pub(crate) fn is_complete(&self) -> bool {
        self.state.borrow().complete
    }

    /// Records that the job has ended and everything is on disk.
    pub(crate) fn set_complete(&self) {
        self.state.send_modify(|state| state.complete = true);
    }

    /// Waits for a request that is not done. For the job.
    pub(crate) async fn requested(&self) {
        let mut state = self.state.subscribe();
        // `self` has the sender, so the channel is open.
        let _open = state.wait_for(|state| state.requested > state.stored).await;
    }

    /// Returns the number of requests. For the job, before it takes the changes.
    pub(crate) fn requests(&self) -> u64 {
        self.state.borrow().requested
    }

    /// Records that the changes before `requests` are on disk; `true` when the store did not work
    /// before.
    pub(crate) fn set_stored(&self, requests: u64) -> bool {
        let mut recovered = false;
        self.state.send_modify(|state| {
            state.stored = requests;
            recovered = state.problem.take().is_some();
        });
        recovered
    }

    /// Records that nothing can be stored; `true` when the store worked before.
    pub(crate) fn set_problem(&self, problem: String) -> bool {
        let mut worked = false;
        self.state
            .send_modify(|state| worked = state.problem.replace(problem).is_none());
        worked
    }
}
