//! ocserv's lists, requested once for all callers that wait for one.
//!
//! A list is long, and ocserv's main process does nothing else while it writes one. Mass
//! disconnects and logins would each ask for it many times a second.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use occtl::ControlError;

use crate::pacer::Pacer;

/// Shortest time between two requests for one list.
const LIST_INTERVAL: Duration = Duration::from_millis(200);

/// A request for a list with rows `T`, until its reply.
type Fetch<T> = BoxFuture<'static, Result<Vec<T>, ControlError>>;
type Reply<T> = BoxFuture<'static, Result<Arc<[T]>, ControlError>>;

/// Requests a list with rows `T` for its callers; clones share the requests.
pub(crate) struct SharedList<T>(Arc<Requests<T>>);

struct Requests<T> {
    pacer: Pacer,
    state: Mutex<State<T>>,
}

/// The requests belong to the callers that wait for them: one that nobody waits for is dropped,
/// because ocserv would block on a reply that nobody reads.
struct State<T> {
    /// Not sent yet: its reply is as recent as one to a request of a new caller.
    waiting: Option<WeakShared<Reply<T>>>,
    /// Sent: a new caller needs a later one.
    sent: Option<WeakShared<Reply<T>>>,
}

impl<T> fmt::Debug for SharedList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedList").finish_non_exhaustive()
    }
}

impl<T> Clone for SharedList<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for SharedList<T> {
    fn default() -> Self {
        let state = State {
            waiting: None,
            sent: None,
        };
        Self(Arc::new(Requests {
            pacer: Pacer::new(LIST_INTERVAL),
            state: Mutex::new(state),
        }))
    }
}

impl<T: Send + Sync + 'static> SharedList<T> {
    /// Returns a list that is requested after this call, together with other callers; requests are
    /// at least [`LIST_INTERVAL`] apart and never overlap. `fetch` requests the list when it is
    /// polled.
    ///
    /// # Errors
    /// When ocserv does not reply.
    pub(crate) async fn get(&self, fetch: impl FnOnce() -> Fetch<T>) -> Result<Arc<[T]>, ControlError> {
        let request = self.join(fetch);
        request.await
    }

    fn join(&self, fetch: impl FnOnce() -> Fetch<T>) -> Shared<Reply<T>> {
        let mut state = self.0.state();
        if let Some(waiting) = state.waiting.as_ref().and_then(WeakShared::upgrade) {
            return waiting;
        }
        let earlier = state.sent.as_ref().and_then(WeakShared::upgrade);
        let request = request(Arc::clone(&self.0), fetch(), earlier);
        let request = request.boxed().shared();
        state.waiting = request.downgrade();
        request
    }
}

async fn request<T: Send + Sync>(
    requests: Arc<Requests<T>>,
    fetch: Fetch<T>,
    earlier: Option<Shared<Reply<T>>>,
) -> Result<Arc<[T]>, ControlError> {
    if let Some(earlier) = earlier {
        // Its error is its own callers'.
        let _ended = earlier.await;
    }
    requests.pacer.turn().await;
    {
        let mut state = requests.state();
        state.sent = state.waiting.take();
    }
    fetch.await.map(Arc::from)
}

impl<T> Requests<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
