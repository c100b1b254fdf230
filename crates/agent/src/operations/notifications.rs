//! Tells the portal of events on the agent, over the control stream.

use portal::{ControlSender, Notification};
use resilience::{FailMode, Transition};

/// Sends events to the portal; without a control stream they are discarded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notifications(Option<ControlSender>);

impl Notifications {
    /// Creates a handle that sends with `sender`.
    pub(crate) fn new(sender: Option<ControlSender>) -> Self {
        Self(sender)
    }

    /// Tells of a change of the breaker's state.
    pub(crate) fn breaker_changed(&self, transition: &Transition) {
        let (from, to) = (transition.from.as_str(), transition.to.as_str());
        let message = format!("the circuit breaker of logins went from {from} to {to}");
        self.send("breaker_changed", message, |event| {
            event
                .with("from", from)
                .with("to", to)
                .with("cause", transition.cause.as_str())
        });
    }

    /// Tells of the fail mode that decides from now on; `until` is the end of a switch.
    pub(crate) fn fail_mode_changed(&self, mode: FailMode, until: Option<&str>) {
        let message = match until {
            Some(until) => format!("the fail mode is {mode} until {until}"),
            None => format!("the fail mode is {mode}, as configured"),
        };
        self.send("fail_mode_changed", message, |event| {
            with_end(event.with("fail_mode", mode), until)
        });
    }

    /// Tells whether logins are forced online, and until when.
    pub(crate) fn force_online_changed(&self, until: Option<&str>) {
        let message = match until {
            Some(until) => format!("every login is asked about or denied until {until}"),
            None => "cached decisions decide again".to_owned(),
        };
        self.send("force_online_changed", message, |event| {
            with_end(event.with("force_online", until.is_some()), until)
        });
    }

    /// Tells that ocserv's control socket does not answer any more.
    pub(crate) fn ocserv_down(&self, error: &str) {
        let message = "ocserv does not answer on its control socket";
        self.send("ocserv_down", message, |event| event.with("error", error));
    }

    /// Tells that ocserv's control socket answers again.
    pub(crate) fn ocserv_up(&self) {
        self.send(
            "ocserv_up",
            "ocserv answers on its control socket again",
            |event| event,
        );
    }

    /// Tells how a reload went.
    pub(crate) fn reloaded(&self, problems: &[String]) {
        if problems.is_empty() {
            self.send("reloaded", "the configuration was reloaded", |event| event);
        } else {
            let problems = problems.join("; ");
            self.send("reload_failed", "the reload failed, at least in part", |event| {
                event.with("error", problems)
            });
        }
    }

    /// Tells that events about sessions were dropped: how many since the start.
    pub(crate) fn events_dropped(&self, total: u64) {
        self.send("events_dropped", "events about sessions were dropped", |event| {
            event.with("total", total)
        });
    }

    /// Tells that the agent is being drained, or serves as before.
    pub(crate) fn drain_changed(&self, is_draining: bool) {
        match is_draining {
            true => self.send(
                "draining",
                "the agent is draining: logins are still decided",
                |event| event,
            ),
            false => self.send("resumed", "the agent serves as before", |event| event),
        }
    }

    /// Tells that the agent stops, and accepts no instruction any more.
    pub(crate) fn deregistered(&self) {
        self.send("deregistered", "the agent is stopping", |event| event);
    }

    fn send(
        &self,
        kind: &'static str,
        message: impl Into<String>,
        complete: impl FnOnce(Notification) -> Notification,
    ) {
        if let Some(sender) = &self.0 {
            sender.notify(&complete(Notification::new(kind, message)));
        }
    }
}

fn with_end(event: Notification, until: Option<&str>) -> Notification {
    match until {
        Some(until) => event.with("until", until),
        None => event,
    }
}
