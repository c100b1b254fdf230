//! Notes about sessions: which name each one bears, how it was let in, and what the portal is to be told about it.
//!
//! ocserv is the truth about who is connected; a note is what ocserv does not know. A session is noted when its
//! connect-script asks, counts as begun when the answer has reached the helper, and is forgotten when its
//! disconnect-script reports. The notes are bounded, and lost in a crash: a session that nobody noted gets its name
//! back from ocserv's list ([`Sessions::adopt`]) or, give or take a second, from the duration that its disconnect-script
//! tells.

mod notes;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ocserv_agent_model::{DisconnectReason, Event, Login, OcservId, Source, Usage, Username};

use notes::Notes;

/// How many sessions are noted at most: over ocserv's own practical limits, so that only notes whose end never came
/// are pushed out.
const MAX_NOTES: usize = 16_384;

/// A login under way, between its question and its answer. Give it back with [`Sessions::delivered`],
/// [`Sessions::undelivered`] or [`Sessions::denied`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a login that is not settled stays under way"]
pub struct Ticket {
    id: OcservId,
    number: u64,
}

/// A session that was there before us, as ocserv lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// ocserv's number of it.
    pub id: OcservId,
    /// Whose.
    pub username: Username,
    /// The second at which ocserv accepted the connection.
    pub connected_at: u64,
}

/// What a disconnect-script reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// ocserv's number of the session.
    pub id: OcservId,
    /// Whose.
    pub username: Username,
    /// What it moved.
    pub usage: Option<Usage>,
    /// How long it lived, from the TCP accept on.
    pub duration: Option<Duration>,
}

/// The notes.
#[derive(Debug)]
pub struct Sessions {
    notes: Mutex<Notes>,
}

impl Sessions {
    /// No session yet, on the server of `agent_id`.
    #[must_use]
    pub fn new(agent_id: &str) -> Self {
        Self {
            notes: Mutex::new(Notes::new(agent_id, MAX_NOTES)),
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        // The notes are changed by methods that do not panic half way.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the sessions that were there before us, so that they keep the names they bear. Those that are noted
    /// already stay as they are.
    pub fn adopt(&self, found: impl IntoIterator<Item = Found>) {
        let mut notes = self.notes();
        for found in found {
            notes.adopt(found);
        }
    }

    /// A login asks. The event, if any, is the end of an older session with the same number, whose disconnect-script
    /// never came.
    pub fn begin(&self, login: &Arc<Login>, now: SystemTime) -> (Ticket, Option<Event>) {
        self.notes().begin(login, now)
    }

    /// The login was denied: ocserv reports no end of it, and the portal hears nothing of it.
    pub fn denied(&self, ticket: &Ticket) {
        self.notes().forget(ticket);
    }

    /// The login was allowed, but nobody was there any more to hear it. ocserv may still report an end of it: it runs the
    /// disconnect-script when the connect-script was killed by a signal. The portal hears of neither.
    pub fn undelivered(&self, ticket: &Ticket) {
        self.notes().undelivered(ticket);
    }

    /// The login was allowed and the helper has the answer: the session begins. `connected_at` is the second at which
    /// ocserv accepted the connection, where ocserv said so. The events are for the portal, in this order.
    #[must_use]
    pub fn delivered(&self, ticket: &Ticket, source: Source, connected_at: Option<u64>) -> Vec<Event> {
        self.notes().delivered(ticket, source, connected_at)
    }

    /// A disconnect-script reports. The events are for the portal, in this order; there is none while the login is still
    /// being answered (its `delivered` will return both) and for a login whose answer reached nobody.
    #[must_use]
    pub fn ended(&self, ended: Ended, now: SystemTime) -> Vec<Event> {
        self.notes().ended(ended, now)
    }

    /// Says why the session with this number is about to end: ocserv will not. Nothing happens when it is not noted.
    pub fn expect_end(&self, id: OcservId, reason: DisconnectReason) {
        self.notes().expect_end(id, reason);
    }

    /// How many live sessions are noted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.notes().count()
    }
}
