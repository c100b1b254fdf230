//! What the agent does on request, one file per use case: endpoints and jobs call these and have no rules of
//! their own. They share the state that is here.

pub(crate) mod disconnect_user;
pub(crate) mod list_sessions;
pub(crate) mod policy_backend;
pub(crate) mod record_session;
pub(crate) mod shared_outbox;

use disconnect_user::DisconnectUser;
use list_sessions::ListSessions;

/// The operations that endpoints call; clones share them.
#[derive(Clone)]
pub(crate) struct Operations {
    pub(crate) disconnect_user: DisconnectUser,
    pub(crate) list_sessions: ListSessions,
}
