//! Connect times of logins.

use std::collections::HashMap;
use std::time::Duration;

use occtl::{ControlError, Session};
use ocserv_agent_model::{Login, error_chain};
use tokio::time::timeout;

use crate::server::Ocserv;

/// Most connections that are looked up one by one; for more, all are listed.
const MAX_SINGLE_LOOKUPS: usize = 8;

impl Ocserv {
    /// Looks up when ocserv accepted the connections of `logins`, in seconds since 1970 and in the
    /// same order. `None` where ocserv did not reply within `limit`, or has reused the id for
    /// another user.
    pub async fn connect_times(&self, logins: &[&Login], limit: Duration) -> Vec<Option<u64>> {
        let mut rows = HashMap::new();
        let error = match timeout(limit, self.look_up(logins, &mut rows)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error_chain(&error)),
            Err(_) => Some(format!("no reply within {limit:?}")),
        };
        if let Some(error) = error {
            let sessions = logins.len();
            tracing::debug!(error, sessions, "could not look up connect times");
        }
        let connect_time = |login: &&Login| {
            let row = rows.get(&login.id.get())?;
            let is_same_user = row.username.as_deref() == Some(login.username.as_str());
            row.connected_at.filter(|_| is_same_user)
        };
        logins.iter().map(connect_time).collect()
    }

    /// Adds the rows of `logins`, and possibly others, to `rows`, by id. Keeps those added before
    /// an error.
    async fn look_up(&self, logins: &[&Login], rows: &mut HashMap<i32, Session>) -> Result<(), ControlError> {
        if logins.len() > MAX_SINGLE_LOOKUPS {
            let all = self.list().await?;
            rows.extend(all.iter().map(|row| (row.id, row.clone())));
            return Ok(());
        }
        for login in logins {
            let row = self.control.id(login.id.get()).await?;
            rows.extend(row.map(|row| (row.id, row)));
        }
        Ok(())
    }
}
