//! Ending all that a user has: the sessions that are up, and the logins that were let in and are not up yet.
//!
//! Between the answer to a connect-script and the moment from which ocserv lists the session as connected there may be
//! milliseconds, or seconds where a script does more than ask. Such a login is waited for and not ended before: ocserv
//! would kill its script and stand still until that is gone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt as _, stream};
use occtl::{ControlError, State};
use ocserv_agent_model::{DisconnectReason, OcservId, Username};
use tokio::time::{sleep, timeout};

use super::{LOOK_EVERY, LiveSession, Ocserv};

/// How long a login that was let in may take to be listed as connected.
pub(super) const COMES_WITHIN: Duration = Duration::from_secs(3);
/// How many sessions end at once.
const AT_ONCE: usize = 16;

/// A login that was let in: ocserv may not list it as connected yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LetIn {
    /// ocserv's number of it.
    pub(crate) id: OcservId,
    /// When it was let in.
    pub(crate) at: SystemTime,
}

/// What became of the sessions of a user.
#[derive(Debug, Default)]
pub(crate) struct ThrownOut {
    /// How many sessions and logins under way she had.
    pub(crate) found: usize,
    /// How many of them were ended; the others have ended by themselves, or are below.
    pub(crate) ended: u32,
    /// Logins whose connect-script took too long: they may still come up.
    pub(crate) under_way: Vec<OcservId>,
    /// What could not be ended, and why.
    pub(crate) failed: Vec<(OcservId, ControlError)>,
}

/// What became of one of them.
enum Fate {
    Ended,
    /// By itself, or its connect-script failed.
    Gone,
    UnderWay,
    Failed(ControlError),
}

impl Ocserv {
    /// The sessions of `username` that are up.
    ///
    /// # Errors
    /// When ocserv does not answer.
    pub(crate) async fn sessions_of(&self, username: &Username) -> Result<Vec<LiveSession>, ControlError> {
        let mut sessions = self.live().await?;
        sessions.retain(|session| session.username == username.as_str());
        Ok(sessions)
    }

    /// Ends all sessions of `username`, several at once, each as [`Self::end`] does. Those of her logins that are among
    /// `let_in` and not up yet are ended as soon as they are, which is waited for, 3 s at most.
    ///
    /// # Errors
    /// When ocserv does not list its sessions; none was ended then.
    pub(crate) async fn throw_out(
        &self,
        username: &Username,
        let_in: &[LetIn],
        reason: DisconnectReason,
    ) -> Result<ThrownOut, ControlError> {
        let rows = self.control.list().await?.into_iter();
        let hers = rows.filter(|row| row.username_bytes == username.as_str().as_bytes());
        let mut hers: Vec<LiveSession> = hers.filter_map(|row| self.named(row)).collect();
        hers.retain(|session| session.is_up() || session.is_among(let_in));
        let mut out = ThrownOut {
            found: hers.len(),
            ..ThrownOut::default()
        };
        let ending = stream::iter(hers).map(|session| {
            let this = self.clone();
            async move { (session.id, this.end_once_up(session, reason).await) }
        });
        let mut ending = ending.buffer_unordered(AT_ONCE);
        while let Some((id, fate)) = ending.next().await {
            match fate {
                Fate::Ended => out.ended += 1,
                Fate::Gone => {}
                Fate::UnderWay => out.under_way.push(id),
                Fate::Failed(error) => out.failed.push((id, error)),
            }
        }
        Ok(out)
    }

    async fn end_once_up(&self, session: LiveSession, reason: DisconnectReason) -> Fate {
        if !session.is_up() {
            match timeout(self.comes_within, self.comes_up(&session)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Fate::Gone,
                Ok(Err(error)) => return Fate::Failed(error),
                Err(_) => return Fate::UnderWay,
            }
        }
        match self.end(&session, reason).await {
            Ok(true) => Fate::Ended,
            Ok(false) => Fate::Gone,
            Err(error) => Fate::Failed(error),
        }
    }

    /// Waits until a login is up; `false` when it is gone instead.
    async fn comes_up(&self, login: &LiveSession) -> Result<bool, ControlError> {
        loop {
            let row = self.control.id(login.id.get()).await?;
            match row.and_then(|row| self.named(row)).filter(|now| now.is(login)) {
                None => return Ok(false),
                Some(now) if now.is_up() => return Ok(true),
                Some(_) => sleep(LOOK_EVERY).await,
            }
        }
    }
}

impl LiveSession {
    fn is_up(&self) -> bool {
        self.row.state == State::Connected
    }

    /// Whether it is one of `let_in`: one that was let in under the same number before this connection began is another.
    fn is_among(&self, let_in: &[LetIn]) -> bool {
        let began = UNIX_EPOCH + Duration::from_secs(self.connected_at);
        let_in
            .iter()
            .any(|login| login.id == self.id && login.at >= began)
    }
}

#[cfg(test)]
mod tests;
