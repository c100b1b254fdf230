//! The sessions of an earlier run.

use crate::row::{self, RowError};
use crate::store::{SessionStore, State};

impl SessionStore {
    /// Adds a session that an earlier run stored. Keeps an entry with the same id, and leaves out
    /// what has ended meanwhile.
    ///
    /// # Errors
    /// When the row cannot be read.
    pub fn restore(&mut self, stored: &[u8]) -> Result<(), RowError> {
        let session = row::decode(stored)?;
        let has_ended = self.ends.has_session(session.id, session.second());
        if !has_ended && !self.by_id.contains_key(&session.id) {
            self.insert(session.id, State::Live(Box::new(session)));
        }
        Ok(())
    }
}
