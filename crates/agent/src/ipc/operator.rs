//! Answers the requests of operators, on the background runtime.

use ocserv_agent_model::{DenyCode, Username};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::response;
use crate::operations::list_decisions::RecentDecisions;
use crate::operations::list_events::{EventQueue, EventsRequest};

/// Most requests that are answered at once; logins have permits of their own.
const MAX_REQUESTS: usize = 4;

/// A request of an operator.
#[derive(Debug)]
pub(super) enum OperatorRequest {
    /// The last decisions, of one user or all.
    Decisions(Option<Username>),
    /// About events.
    Events(EventsRequest),
}

/// Answers requests of operators.
pub(super) struct OperatorRequests {
    recent: RecentDecisions,
    /// `None` without a portal.
    events: Option<EventQueue>,
    background: Handle,
    permits: Semaphore,
}

impl OperatorRequests {
    pub(super) fn new(recent: RecentDecisions, events: Option<EventQueue>, background: Handle) -> Self {
        Self {
            recent,
            events,
            background,
            permits: Semaphore::new(MAX_REQUESTS),
        }
    }

    /// Returns a permit for one request; `None` when too many are in progress.
    pub(super) fn admit(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.try_acquire().ok()
    }

    pub(super) async fn answer(&self, request: OperatorRequest) -> ipc::Response {
        let answered = match (request, self.events.clone()) {
            (OperatorRequest::Decisions(user), _) => {
                let recent = self.recent.clone();
                let table = async move { Ok(recent.table(user.as_ref())) };
                self.background.spawn(table).await
            }
            (OperatorRequest::Events(request), Some(events)) => {
                self.background.spawn(events.answer(request)).await
            }
            (OperatorRequest::Events(_), None) => {
                let reason = "without a portal there are no events for it";
                return response::rejection(DenyCode::BadRequest, reason);
            }
        };
        match answered {
            Ok(Ok(text)) => response::table(text),
            Ok(Err(error)) => response::rejection(DenyCode::BadRequest, &error.to_string()),
            Err(error) => response::rejection(DenyCode::Outage, &error.to_string()),
        }
    }
}
