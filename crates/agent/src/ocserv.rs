//! The ocserv next to us: who is connected, and how to end a session for sure.

mod logins;
mod pulse;
mod throw_out;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use logins::{GOES_WITHIN, Known};
use occtl::{ControlError, ControlSocket, Session, State};
use ocserv_agent_model::{DisconnectReason, OcservId, SessionUid};

use crate::operations::record_session::SessionRecorder;
use throw_out::COMES_WITHIN;

pub(crate) use pulse::feel_pulse;
pub(crate) use throw_out::LetIn;

/// The pause between two looks at what becomes of a session.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The ocserv of this server; clones share it.
#[derive(Clone)]
pub struct Ocserv {
    control: ControlSocket,
    agent_id: Arc<str>,
    recorder: Arc<SessionRecorder>,
    known: Arc<Mutex<Option<Known>>>,
    comes_within: Duration,
    goes_within: Duration,
}

/// A session that a client uses now, with everything that names it known.
#[derive(Debug, Clone)]
pub struct LiveSession {
    /// Whose, as ocserv has it: it may be a name that this agent would not let in. Bytes that are not UTF-8 are replaced.
    pub username: String,
    /// ocserv's number of it.
    pub id: OcservId,
    /// When ocserv accepted the connection, in seconds since 1970.
    pub connected_at: u64,
    /// Its name for ever.
    pub uid: SessionUid,
    /// All that ocserv says about it.
    pub row: Session,
}

impl Ocserv {
    /// Speaks to ocserv over `control`, and tells `recorder` which ends are to be expected.
    #[must_use]
    pub fn new(control: ControlSocket, agent_id: &str, recorder: Arc<SessionRecorder>) -> Self {
        Self {
            control,
            agent_id: agent_id.into(),
            recorder,
            known: Arc::default(),
            comes_within: COMES_WITHIN,
            goes_within: GOES_WITHIN,
        }
    }

    /// The same ocserv, but with this patience for sessions that are to come up or were told to end.
    #[cfg(test)]
    fn patient_for(self, patience: Duration) -> Self {
        Self {
            comes_within: patience,
            goes_within: patience,
            ..self
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sessions that clients use now. Connections that have not logged in, and logins whose connect-script still
    /// runs, are not among them.
    ///
    /// # Errors
    /// When ocserv does not answer.
    pub async fn live(&self) -> Result<Vec<LiveSession>, ControlError> {
        Ok(self
            .control
            .list()
            .await?
            .into_iter()
            .filter_map(|row| self.live_session(row))
            .collect())
    }

    fn live_session(&self, row: Session) -> Option<LiveSession> {
        if row.state != State::Connected {
            return None;
        }
        self.named(row)
    }

    /// A session, or what may become one, with everything that names it.
    fn named(&self, row: Session) -> Option<LiveSession> {
        let (Ok(id), Some(connected_at)) = (OcservId::new(row.id), row.connected_at) else {
            tracing::warn!(
                id = row.id,
                "ocserv lists a session without a number or a time to tell it by"
            );
            return None;
        };
        let username = String::from_utf8_lossy(&row.username_bytes).into_owned();
        let uid = SessionUid::new(&self.agent_id, id, connected_at);
        Some(LiveSession {
            username,
            id,
            connected_at,
            uid,
            row,
        })
    }

    /// Ends `session` if it is still the same one: ocserv's number may have gone to another session since it was
    /// listed. The disconnect that follows is reported with `reason`. `false` when the session had ended already.
    ///
    /// Where ocserv is 1.4.2 or newer this also waits, for 5 s at most, until the session is gone, and then has ocserv
    /// forget its login.
    ///
    /// # Errors
    /// When ocserv does not answer; the session may have been ended all the same.
    pub async fn end(&self, session: &LiveSession, reason: DisconnectReason) -> Result<bool, ControlError> {
        let now = self
            .control
            .id(session.id.get())
            .await?
            .and_then(|row| self.live_session(row));
        let Some(now) = now.filter(|now| now.is(session)) else {
            return Ok(false);
        };
        // Said before ocserv is asked: its disconnect-script may come back sooner than ocserv's answer.
        self.recorder.expect_end(session.id, reason);
        let ended = self.control.disconnect_id(session.id.get()).await;
        if matches!(ended, Ok(true)) {
            self.forget_login_of(&now).await;
        } else {
            self.recorder
                .expect_end(session.id, DisconnectReason::Unspecified);
        }
        ended
    }
}

impl LiveSession {
    /// Whether both are the same session: ocserv's number alone does not tell.
    fn is(&self, other: &Self) -> bool {
        self.uid == other.uid && self.username == other.username
    }
}

#[cfg(test)]
mod tests;
