//! The agent's use cases, one file each, called by endpoints and jobs alike; and the state that
//! they share.

pub(crate) mod authorize_login;
pub(crate) mod disconnect_user;
pub(crate) mod drain;
pub(crate) mod invalidate_decisions;
pub(crate) mod list_decisions;
pub(crate) mod list_events;
pub(crate) mod list_sessions;
pub(crate) mod notifications;
pub(crate) mod policy_backend;
pub(crate) mod record_session;
pub(crate) mod refused_reloads;
pub(crate) mod register_sessions;
pub(crate) mod request_reload;
pub(crate) mod resync;
pub(crate) mod role;
pub(crate) mod runtime_switches;
pub(crate) mod shared_outbox;
pub(crate) mod store_status;

use std::sync::Arc;

use authz::Authorizer;
use ocserv::Ocserv;

use disconnect_user::DisconnectUser;
use list_sessions::ListSessions;
use record_session::SessionRecorder;
use store_status::StoreStatus;

/// The operations that endpoints call; clones share them.
#[derive(Clone)]
pub(crate) struct Operations {
    pub(crate) disconnect_user: DisconnectUser,
    pub(crate) list_sessions: ListSessions,
}

impl Operations {
    /// `store` is `None` where decisions are not stored.
    pub(crate) fn new(
        ocserv: &Ocserv,
        recorder: &Arc<SessionRecorder>,
        authorizer: &Authorizer,
        store: Option<StoreStatus>,
    ) -> Self {
        Self {
            disconnect_user: DisconnectUser::new(
                ocserv.clone(),
                Arc::clone(recorder),
                authorizer.clone(),
                store,
            ),
            list_sessions: ListSessions::new(ocserv.clone()),
        }
    }
}
