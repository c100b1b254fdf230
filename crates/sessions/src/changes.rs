//! What one change of the store brings about.

use ocserv_agent_model::{Event, SessionUid, Usage};

/// The events of a change and the rows that it writes. Both belong on disk together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "events that are not reported are lost"]
pub struct Changes {
    /// The events, in order.
    pub events: Vec<Event>,
    /// The stored rows that change.
    pub rows: Vec<RowChange>,
    /// Bytes that are newly known to have moved.
    pub traffic: Usage,
}

/// A row to write or to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// The session.
    pub uid: SessionUid,
    /// The row's new bytes; `None` removes it.
    pub row: Option<Vec<u8>>,
}

impl Changes {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.rows.is_empty() && self.traffic == Usage::default()
    }

    pub(crate) fn add_traffic(&mut self, traffic: Usage) {
        self.traffic.received = self.traffic.received.saturating_add(traffic.received);
        self.traffic.sent = self.traffic.sent.saturating_add(traffic.sent);
    }
}
