//! Lists the connected sessions.

use occtl::ControlError;
use ocserv::{LiveSession, Ocserv, UsageError};
use ocserv_agent_model::{Usage, Username};
use std::collections::HashMap;

/// Lists the connected sessions of one user, or of all.
#[derive(Clone)]
pub(crate) struct ListSessions {
    ocserv: Ocserv,
}

/// A connected session.
pub(crate) struct ListedSession {
    pub(crate) session: LiveSession,
    /// Its byte counts, where requested and known.
    pub(crate) usage: Option<Usage>,
}

/// Why sessions could not be listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("ocserv does not answer")]
    Ocserv(#[from] ControlError),
    #[error("could not read the byte counts")]
    Usage(#[from] UsageError),
}

impl ListSessions {
    pub(crate) fn new(ocserv: Ocserv) -> Self {
        Self { ocserv }
    }

    /// Lists the sessions of `username`, or all; `with_usage` adds their byte counts.
    pub(crate) async fn run(
        &self,
        username: Option<&Username>,
        with_usage: bool,
    ) -> Result<Vec<ListedSession>, ListError> {
        let mut sessions = self.ocserv.sessions().await?;
        sessions.retain(|session| username.is_none_or(|username| session.is_of(username)));
        let usage = if with_usage {
            self.ocserv.device_usage().await?
        } else {
            HashMap::new()
        };
        let usage_of = |session: &LiveSession| usage.get(session.row.device.as_ref()?).copied();
        Ok(sessions
            .into_iter()
            .map(|session| ListedSession {
                usage: usage_of(&session),
                session,
            })
            .collect())
    }
}
