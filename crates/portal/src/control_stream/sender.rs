//! The handle of who sends on the control stream.

use std::sync::Arc;

use tokio::sync::watch;

use super::message;
use super::outgoing::{Outgoing, Shared};
use super::types::{ControlStats, Heartbeat, InstructionKind, MetricsReport, Notification};
use crate::clock;

/// Sends to the portal on the control stream; clones share it. Never waits.
#[derive(Debug, Clone)]
pub struct ControlSender(Arc<Shared>);

impl ControlSender {
    /// Creates a sender for `agent_id`; `instance` distinguishes the processes of one agent.
    #[must_use]
    pub fn new(agent_id: &str, instance: &str) -> Self {
        Self(Arc::new(Shared::new(Outgoing::new(agent_id, instance))))
    }

    /// Sends an event, again and again until the portal acknowledges it. At most 256 are pending;
    /// one more drops the oldest. While the portal serves no control stream, events are discarded.
    pub fn notify(&self, notification: &Notification) {
        let at = clock::wall();
        self.0.change(|outgoing| outgoing.push(notification, at));
    }

    /// Sends a heartbeat, in place of one that is not sent yet.
    pub fn send_heartbeat(&self, heartbeat: Heartbeat) {
        self.send_report(message::heartbeat(heartbeat));
    }

    /// Sends a report of metrics, in place of one that is not sent yet.
    pub fn send_metrics(&self, report: MetricsReport) {
        self.send_report(message::metrics(report));
    }

    /// Refuses an instruction of a kind that has a response of its own.
    pub fn refuse(&self, request_id: &str, kind: &InstructionKind, error: &str) {
        if let Some(refusal) = message::refusal(request_id, kind, error) {
            let at = clock::wall();
            self.0.change(|outgoing| outgoing.push_response(refusal, at));
        }
    }

    /// Ends the stream once everything is sent; nothing is sent afterwards.
    pub fn close(&self) {
        self.0.change(Outgoing::close);
    }

    /// Returns state and totals.
    #[must_use]
    pub fn stats(&self) -> ControlStats {
        self.0.read(Outgoing::stats)
    }

    /// Returns what the streams share.
    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }

    fn send_report(&self, report: message::Payload) {
        let at = clock::wall();
        self.0.change(|outgoing| outgoing.set_report(report, at));
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}
