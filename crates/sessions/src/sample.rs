//! Samples of the tun devices' byte counters.

use std::time::{Duration, SystemTime};

use ocserv_agent_model::{Event, Usage};

use crate::changes::Changes;
use crate::row;
use crate::store::{SessionStore, State};

impl SessionStore {
    /// Records the byte counts of the sessions that the last list had, by tun device, as read at
    /// `now`. Returns the changed rows and, in `changes.events`, one update of each session; a
    /// session of which `usage_of` knows nothing has an update that says so.
    pub fn sample(
        &mut self,
        usage_of: impl Fn(&str) -> Option<Usage>,
        idle_after: Duration,
        now: SystemTime,
    ) -> Changes {
        let generation = self.generation;
        let mut changes = Changes::default();
        for entry in self.by_id.values_mut() {
            let State::Live(session) = &mut entry.state else {
                continue;
            };
            if entry.generation != generation || session.missing_since.is_some() {
                continue;
            }
            let known = session.usage;
            // Counters that went back are another session's: the device was reused meanwhile.
            let usage = usage_of(&session.device).filter(|usage| {
                let known = known.unwrap_or_default();
                usage.received >= known.received && usage.sent >= known.sent
            });
            if let Some(usage) = usage
                && session.usage != Some(usage)
            {
                let known = known.unwrap_or_default();
                changes.add_traffic(Usage {
                    received: usage.received - known.received,
                    sent: usage.sent - known.sent,
                });
                session.usage = Some(usage);
                session.last_activity = now;
                changes.rows.push(row::change(session));
            }
            changes.events.push(session.update_event(usage, now, idle_after));
        }
        changes
    }

    /// Whether the session of an event is still connected.
    #[must_use]
    pub fn is_live(&self, event: &Event) -> bool {
        self.get(event.id).is_some_and(|session| session.uid == event.uid)
    }
}
