//! What waits to be sent on the control stream.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use ocserv_agent_proto::agent::v1::AgentMessage;
use tokio::sync::watch;

use super::message::{self, Payload};
use super::types::{ControlStats, Notification};

/// Most events that wait for their acknowledgement.
const MAX_PENDING: usize = 256;

/// One of the streams, in the order of their opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamNumber(u64);

/// What to do with a stream now.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Send(Box<AgentMessage>),
    Wait,
    /// Nothing more will be sent on it.
    End,
}

/// An event or a response.
#[derive(Debug)]
struct Entry {
    /// `None` for a response, which is sent once and not acknowledged.
    event_id: Option<String>,
    message: AgentMessage,
    is_sent: bool,
}

/// The messages for the portal.
#[derive(Debug)]
pub(super) struct Outgoing {
    agent_id: String,
    /// Begins the ids of this process's events.
    id_prefix: String,
    next_id: u64,
    /// The first message of the stream.
    registration: Option<AgentMessage>,
    /// Events in their order, each until it is acknowledged.
    entries: VecDeque<Entry>,
    /// The latest heartbeat, and the latest report of metrics.
    reports: Vec<AgentMessage>,
    stream: u64,
    dropped: u64,
    is_connected: bool,
    is_unsupported: bool,
    is_closing: bool,
}

impl Outgoing {
    /// `instance` distinguishes the processes of one agent.
    pub(super) fn new(agent_id: &str, instance: &str) -> Self {
        Self {
            agent_id: agent_id.to_owned(),
            id_prefix: format!("{agent_id}/{instance}"),
            next_id: 1,
            registration: None,
            entries: VecDeque::new(),
            reports: Vec::new(),
            stream: 0,
            dropped: 0,
            is_connected: false,
            is_unsupported: false,
            is_closing: false,
        }
    }

    /// Adds an event; drops the oldest one when too many are pending.
    pub(super) fn push(&mut self, notification: &Notification, at: SystemTime) {
        if self.is_unsupported || self.is_closing {
            return;
        }
        let event_id = self.event_id(notification);
        let message = self.event(notification, &event_id, at);
        // The same event again: the portal asked for it again.
        if let Some(entry) = self
            .entries
            .iter_mut()
            .find(|entry| entry.event_id.as_ref() == Some(&event_id))
        {
            (entry.message, entry.is_sent) = (message, false);
            return;
        }
        self.push_entry(Some(event_id), message);
    }

    /// Adds a response, which is sent once.
    pub(super) fn push_response(&mut self, response: Payload, at: SystemTime) {
        let message = message::message(&self.agent_id, at, response);
        self.push_entry(None, message);
    }

    fn push_entry(&mut self, event_id: Option<String>, message: AgentMessage) {
        if self.entries.len() == MAX_PENDING {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(Entry {
            event_id,
            message,
            is_sent: false,
        });
    }

    /// Sets the latest report of its kind.
    pub(super) fn set_report(&mut self, report: Payload, at: SystemTime) {
        let message = message::message(&self.agent_id, at, report);
        let is_same = |other: &AgentMessage| {
            let (a, b) = (other.payload.as_ref(), message.payload.as_ref());
            a.map(std::mem::discriminant) == b.map(std::mem::discriminant)
        };
        self.reports.retain(|other| !is_same(other));
        self.reports.push(message);
    }

    /// Starts a stream: the earlier ones send nothing more, and every event that is not
    /// acknowledged is sent again.
    pub(super) fn open(&mut self, registration: &Notification, at: SystemTime) -> StreamNumber {
        self.stream += 1;
        // What was measured before belongs to an earlier stream.
        self.reports.clear();
        for entry in &mut self.entries {
            entry.is_sent = false;
        }
        let event_id = self.event_id(registration);
        self.registration = Some(self.event(registration, &event_id, at));
        StreamNumber(self.stream)
    }

    /// Returns what to send on `stream`.
    pub(super) fn next(&mut self, stream: StreamNumber) -> Next {
        if stream.0 != self.stream {
            return Next::End;
        }
        if let Some(registration) = self.registration.take() {
            return Next::Send(Box::new(registration));
        }
        if let Some(index) = self.entries.iter().position(|entry| !entry.is_sent) {
            let entry = &mut self.entries[index];
            entry.is_sent = true;
            let message = entry.message.clone();
            if entry.event_id.is_none() {
                self.entries.remove(index);
            }
            return Next::Send(Box::new(message));
        }
        match self.reports.is_empty() {
            false => Next::Send(Box::new(self.reports.remove(0))),
            true if self.is_closing => Next::End,
            true => Next::Wait,
        }
    }

    /// Removes the event that the portal has stored.
    pub(super) fn acknowledge(&mut self, event_id: &str) {
        self.entries
            .retain(|entry| !entry.is_sent || entry.event_id.as_deref() != Some(event_id));
    }

    pub(super) fn set_connected(&mut self, is_connected: bool) {
        self.is_connected = is_connected;
        self.is_unsupported &= !is_connected;
    }

    /// Discards events until a stream is accepted: the portal serves none.
    pub(super) fn set_unsupported(&mut self) {
        self.is_unsupported = true;
        self.entries.clear();
    }

    pub(super) fn close(&mut self) {
        self.is_closing = true;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    pub(super) fn stats(&self) -> ControlStats {
        ControlStats {
            connected: self.is_connected,
            unsupported: self.is_unsupported,
            streams: self.stream,
            pending: self.entries.len(),
            dropped: self.dropped,
        }
    }

    fn event_id(&mut self, notification: &Notification) -> String {
        if let Some(id) = &notification.event_id {
            return format!("{}/{id}", self.id_prefix);
        }
        let id = format!("{}/{}", self.id_prefix, self.next_id);
        self.next_id += 1;
        id
    }

    fn event(&self, notification: &Notification, event_id: &str, at: SystemTime) -> AgentMessage {
        message::message(&self.agent_id, at, message::event(notification, event_id))
    }
}

/// [`Outgoing`], shared by who sends and the streams.
#[derive(Debug)]
pub(super) struct Shared {
    outgoing: Mutex<Outgoing>,
    changed: watch::Sender<()>,
}

impl Shared {
    pub(super) fn new(outgoing: Outgoing) -> Self {
        Self {
            outgoing: Mutex::new(outgoing),
            changed: watch::Sender::new(()),
        }
    }

    /// Applies a change, and wakes the streams.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Outgoing) -> T) -> T {
        // No method of `Outgoing` panics with a change half made.
        let result = change(&mut self.outgoing.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
        result
    }

    /// Reads without waking anyone.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Outgoing) -> T) -> T {
        read(&self.outgoing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what to send on `stream` now.
    pub(super) fn next(&self, stream: StreamNumber) -> Next {
        let mut outgoing = self.outgoing.lock().unwrap_or_else(PoisonError::into_inner);
        outgoing.next(stream)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::types::{AgentHealth, Heartbeat, OcservState};
    use super::*;

    fn outgoing() -> Outgoing {
        Outgoing::new("a1", "9")
    }

    fn open(outgoing: &mut Outgoing) -> StreamNumber {
        outgoing.open(&Notification::new("registered", ""), UNIX_EPOCH)
    }

    fn push(outgoing: &mut Outgoing, kind: &'static str) {
        outgoing.push(&Notification::new(kind, ""), UNIX_EPOCH);
    }

    /// The kinds of everything that is sent now, with the ids of events.
    fn sent(outgoing: &mut Outgoing, stream: StreamNumber) -> Vec<(String, String)> {
        let mut all = Vec::new();
        while let Next::Send(message) = outgoing.next(stream) {
            all.push(match message.payload.unwrap() {
                Payload::Event(event) => (event.event_type, event.metadata["event_id"].clone()),
                other => (format!("{other:?}")[..9].to_owned(), String::new()),
            });
        }
        all
    }

    fn kinds(sent: &[(String, String)]) -> Vec<&str> {
        sent.iter().map(|(kind, _)| kind.as_str()).collect()
    }

    #[test]
    fn an_event_is_repeated_under_its_id_until_it_is_acknowledged() {
        let mut outgoing = outgoing();
        let first = open(&mut outgoing);
        push(&mut outgoing, "draining");
        push(&mut outgoing, "resumed");
        let before = sent(&mut outgoing, first);
        assert_eq!(kinds(&before), ["registered", "draining", "resumed"]);
        assert_eq!(outgoing.next(first), Next::Wait);
        outgoing.acknowledge(&before[1].1);
        let second = open(&mut outgoing);
        assert_eq!(
            outgoing.next(first),
            Next::End,
            "the old stream sends nothing more"
        );
        let after = sent(&mut outgoing, second);
        assert_eq!(kinds(&after), ["registered", "resumed"]);
        assert_eq!(after[1], before[2]);
        assert_ne!(
            after[0].1, before[0].1,
            "each registration is an event of its own"
        );
    }

    #[test]
    fn the_queue_is_bounded_and_drops_the_oldest_event() {
        let mut outgoing = outgoing();
        for _ in 0..MAX_PENDING + 3 {
            push(&mut outgoing, "breaker_changed");
        }
        assert_eq!(outgoing.stats().pending, MAX_PENDING);
        assert_eq!(outgoing.stats().dropped, 3);
        let stream = open(&mut outgoing);
        assert_eq!(sent(&mut outgoing, stream)[1].1, "a1/9/4");
    }

    #[test]
    fn an_event_with_a_known_id_is_sent_again_and_kept_once() {
        let mut outgoing = outgoing();
        let stream = open(&mut outgoing);
        let result = Notification {
            event_id: Some("action/7".to_owned()),
            ..Notification::new("action_result", "")
        };
        for _ in 0..2 {
            outgoing.push(&result, UNIX_EPOCH);
            assert_eq!(sent(&mut outgoing, stream).last().unwrap().1, "a1/9/action/7");
        }
        assert_eq!(outgoing.stats().pending, 1);
    }

    #[test]
    fn only_the_latest_heartbeat_waits_and_none_of_an_earlier_stream() {
        let mut outgoing = outgoing();
        let beat = || {
            message::heartbeat(Heartbeat {
                health: AgentHealth::Healthy,
                system: None,
                ocserv: OcservState::default(),
            })
        };
        outgoing.set_report(beat(), UNIX_EPOCH);
        let stream = open(&mut outgoing);
        assert_eq!(kinds(&sent(&mut outgoing, stream)), ["registered"]);
        outgoing.set_report(beat(), UNIX_EPOCH);
        outgoing.set_report(beat(), UNIX_EPOCH);
        assert_eq!(kinds(&sent(&mut outgoing, stream)), ["Heartbeat"]);
    }

    #[test]
    fn a_closed_stream_ends_after_what_was_pushed_before() {
        let mut outgoing = outgoing();
        let stream = open(&mut outgoing);
        push(&mut outgoing, "deregistered");
        outgoing.close();
        push(&mut outgoing, "too_late");
        assert_eq!(
            kinds(&sent(&mut outgoing, stream)),
            ["registered", "deregistered"]
        );
        assert_eq!(outgoing.next(stream), Next::End);
    }

    #[test]
    fn without_a_portal_that_serves_the_stream_nothing_piles_up() {
        let mut outgoing = outgoing();
        push(&mut outgoing, "draining");
        outgoing.set_unsupported();
        push(&mut outgoing, "resumed");
        assert_eq!(
            (outgoing.stats().pending, outgoing.stats().unsupported),
            (0, true)
        );
    }
}
