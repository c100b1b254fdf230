//! ocserv's list of connections, requested once for all callers that wait for it.
//!
//! A list is long, and ocserv's main process does nothing else while it writes one. Mass
//! disconnects and logins would each ask for it many times a second.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use occtl::{ControlError, ControlSocket, Session};

use crate::pacer::Pacer;

/// Shortest time between two requests for the list.
const LIST_INTERVAL: Duration = Duration::from_millis(200);

/// The rows of one list.
pub(crate) type Rows = Arc<[Session]>;

type Reply = BoxFuture<'static, Result<Rows, ControlError>>;

/// Requests the list for its callers; clones share the requests.
#[derive(Clone)]
pub(crate) struct SharedList(Arc<Requests>);

struct Requests {
    pacer: Pacer,
    state: Mutex<State>,
}

/// The requests belong to the callers that wait for them: one that nobody waits for is dropped,
/// because ocserv would block on a reply that nobody reads.
#[derive(Default)]
struct State {
    /// Not sent yet: its reply is as recent as one to a request of a new caller.
    waiting: Option<WeakShared<Reply>>,
    /// Sent: a new caller needs a later one.
    sent: Option<WeakShared<Reply>>,
}

impl fmt::Debug for SharedList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedList").finish_non_exhaustive()
    }
}

impl Default for SharedList {
    fn default() -> Self {
        Self(Arc::new(Requests {
            pacer: Pacer::new(LIST_INTERVAL),
            state: Mutex::default(),
        }))
    }
}

impl SharedList {
    /// Returns a list that is requested from `control` after this call, together with other
    /// callers; requests are at least [`LIST_INTERVAL`] apart and never overlap.
    ///
    /// # Errors
    /// When ocserv does not reply.
    pub(crate) async fn get(&self, control: &ControlSocket) -> Result<Rows, ControlError> {
        let request = self.join(control);
        request.await
    }

    fn join(&self, control: &ControlSocket) -> Shared<Reply> {
        let mut state = self.0.state();
        if let Some(waiting) = state.waiting.as_ref().and_then(WeakShared::upgrade) {
            return waiting;
        }
        let earlier = state.sent.as_ref().and_then(WeakShared::upgrade);
        let request = request(Arc::clone(&self.0), control.clone(), earlier);
        let request = request.boxed().shared();
        state.waiting = request.downgrade();
        request
    }
}

async fn request(
    requests: Arc<Requests>,
    control: ControlSocket,
    earlier: Option<Shared<Reply>>,
) -> Result<Rows, ControlError> {
    if let Some(earlier) = earlier {
        // Its error is its own callers'.
        let _ended = earlier.await;
    }
    requests.pacer.turn().await;
    {
        let mut state = requests.state();
        state.sent = state.waiting.take();
    }
    control.list().await.map(Arc::from)
}

impl Requests {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
