//! The notes themselves: a plain value that knows no clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ocserv_agent_model::{
    Connected, DisconnectReason, Disconnected, Event, EventId, EventKind, Login, OcservId, SessionUid,
    Source, Usage, Username,
};

use super::{Ended, Found, Ticket};

#[derive(Debug)]
pub(super) struct Notes {
    agent_id: String,
    max: usize,
    /// Counts up with every note, so that the oldest can be told and a late answer does not touch a newer login.
    number: u64,
    by_id: HashMap<OcservId, Note>,
}

#[derive(Debug)]
struct Note {
    number: u64,
    username: Username,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The helper waits for its answer. Its disconnect-script may overtake it.
    Answering {
        login: Arc<Login>,
        arrived: SystemTime,
        ended: Option<(Ended, SystemTime)>,
        /// Why it is about to end: ocserv may have it up before the answer counts as heard.
        reason: DisconnectReason,
    },
    /// The session is there.
    Live {
        uid: SessionUid,
        source: Option<Source>,
        reason: DisconnectReason,
    },
    /// Allowed, and nobody heard it.
    Undelivered,
}

impl Notes {
    pub(super) fn new(agent_id: &str, max: usize) -> Self {
        Self {
            agent_id: agent_id.to_owned(),
            max,
            number: 0,
            by_id: HashMap::new(),
        }
    }

    fn put(&mut self, id: OcservId, username: Username, stage: Stage) -> u64 {
        if self.by_id.len() >= self.max
            && !self.by_id.contains_key(&id)
            && let Some(oldest) = self
                .by_id
                .iter()
                .min_by_key(|(_, note)| note.number)
                .map(|(id, _)| *id)
        {
            self.by_id.remove(&oldest);
        }
        self.number += 1;
        self.by_id.insert(
            id,
            Note {
                number: self.number,
                username,
                stage,
            },
        );
        self.number
    }

    pub(super) fn adopt(&mut self, found: Found) {
        if self.by_id.contains_key(&found.id) {
            return;
        }
        let uid = SessionUid::new(&self.agent_id, found.id, found.connected_at);
        let stage = Stage::Live {
            uid,
            source: None,
            reason: DisconnectReason::Unspecified,
        };
        self.put(found.id, found.username, stage);
    }

    pub(super) fn begin(&mut self, login: &Arc<Login>, now: SystemTime) -> (Ticket, Option<Event>) {
        let superseded = self
            .by_id
            .remove(&login.id)
            .and_then(|note| note.end(login.id, now, None, None));
        let stage = Stage::Answering {
            login: Arc::clone(login),
            arrived: now,
            ended: None,
            reason: DisconnectReason::Unspecified,
        };
        let number = self.put(login.id, login.username.clone(), stage);
        (Ticket { id: login.id, number }, superseded)
    }

    fn take(&mut self, ticket: &Ticket) -> Option<Note> {
        if self.by_id.get(&ticket.id)?.number == ticket.number {
            self.by_id.remove(&ticket.id)
        } else {
            None
        }
    }

    pub(super) fn forget(&mut self, ticket: &Ticket) {
        self.take(ticket);
    }

    pub(super) fn undelivered(&mut self, ticket: &Ticket) {
        // An end that has been reported already is the end of it.
        if let Some(Note {
            username,
            stage: Stage::Answering { ended: None, .. },
            ..
        }) = self.take(ticket)
        {
            self.put(ticket.id, username, Stage::Undelivered);
        }
    }

    pub(super) fn delivered(
        &mut self,
        ticket: &Ticket,
        source: Source,
        connected_at: Option<u64>,
    ) -> Vec<Event> {
        let Some(Note {
            username,
            stage:
                Stage::Answering {
                    login,
                    arrived,
                    ended,
                    reason,
                },
            ..
        }) = self.take(ticket)
        else {
            return Vec::new();
        };
        let seconds = connected_at.unwrap_or_else(|| seconds(arrived));
        let uid = SessionUid::new(&self.agent_id, login.id, seconds);
        let connected = EventKind::Connected(Connected {
            at: connected_at.map_or(arrived, |seconds| UNIX_EPOCH + Duration::from_secs(seconds)),
            client_ip: login.client_ip,
            vpn_ip: login.vpn_ip,
            device: login.device.clone(),
            group: login.group.clone(),
        });
        let mut events = vec![event(&username, ticket.id, &uid, Some(source), connected)];
        let stage = Stage::Live {
            uid,
            source: Some(source),
            reason,
        };
        match ended {
            Some((ended, at)) => {
                let note = Note {
                    number: ticket.number,
                    username,
                    stage,
                };
                events.extend(note.end(ticket.id, at, ended.usage, ended.duration));
            }
            None => {
                self.put(ticket.id, username, stage);
            }
        }
        events
    }

    pub(super) fn ended(&mut self, ended: Ended, now: SystemTime) -> Vec<Event> {
        let mut events = Vec::new();
        match self.by_id.get_mut(&ended.id) {
            // Its disconnect-script never came, and now the number is another user's.
            Some(note) if note.username != ended.username => {
                if matches!(note.stage, Stage::Answering { .. }) {
                    // The number is that of a login under way, so the report is a late one about a session that is
                    // not noted any more: the login is left alone.
                } else if let Some(note) = self.by_id.remove(&ended.id) {
                    events.extend(note.end(ended.id, now, None, None));
                }
            }
            Some(Note {
                stage: Stage::Answering {
                    ended: overtaking, ..
                },
                ..
            }) => {
                *overtaking = Some((ended, now));
                return events;
            }
            Some(_) => {
                let note = self.by_id.remove(&ended.id);
                events.extend(note.and_then(|note| note.end(ended.id, now, ended.usage, ended.duration)));
                return events;
            }
            None => {}
        }
        let began = ended
            .duration
            .and_then(|duration| now.checked_sub(duration))
            .unwrap_or(now);
        let uid = SessionUid::new(&self.agent_id, ended.id, seconds(began));
        let kind = EventKind::Disconnected(Disconnected {
            at: now,
            reason: DisconnectReason::Unspecified,
            usage: ended.usage,
            duration: ended.duration,
        });
        events.push(event(&ended.username, ended.id, &uid, None, kind));
        events
    }

    pub(super) fn expect_end(&mut self, id: OcservId, why: DisconnectReason) {
        if let Some(Note {
            stage: Stage::Live { reason, .. } | Stage::Answering { reason, .. },
            ..
        }) = self.by_id.get_mut(&id)
        {
            *reason = why;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.by_id
            .values()
            .filter(|note| matches!(note.stage, Stage::Live { .. }))
            .count()
    }
}

impl Note {
    /// The end of what this note is about, for the portal; nothing when the portal never heard of its beginning.
    fn end(
        self,
        id: OcservId,
        at: SystemTime,
        usage: Option<Usage>,
        duration: Option<Duration>,
    ) -> Option<Event> {
        let Stage::Live {
            uid, source, reason, ..
        } = self.stage
        else {
            return None;
        };
        let kind = EventKind::Disconnected(Disconnected {
            at,
            reason,
            usage,
            duration,
        });
        Some(event(&self.username, id, &uid, source, kind))
    }
}

fn event(
    username: &Username,
    id: OcservId,
    uid: &SessionUid,
    decision_source: Option<Source>,
    kind: EventKind,
) -> Event {
    Event {
        event_id: EventId::new(uid, &kind),
        username: username.clone(),
        id,
        uid: uid.clone(),
        decision_source,
        kind,
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
