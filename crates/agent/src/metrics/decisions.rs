//! Metrics of decided logins.

use authz::DecisionRecord;
use ocserv_agent_model::Source;
use telemetry::{Counter, Histogram, Kind, Registry};

use super::{Metrics, SECONDS, declare};

declare! {
    DECISIONS = "ocserv_agent_decisions_total", Kind::Counter, ["source", "outcome"],
        "Decided logins, by the source of the decision and its outcome.";
    DECISION_SECONDS = "ocserv_agent_decision_duration_seconds", Kind::Histogram(SECONDS), ["source"],
        "Time from a login's request to its decision.";
}

/// The series of decisions, looked up once: every login touches them.
pub(super) struct DecisionSeries([SourceSeries; Source::ALL.len()]);

struct SourceSeries {
    source: Source,
    allow: Counter,
    deny: Counter,
    seconds: Histogram,
}

impl DecisionSeries {
    pub(super) fn register(registry: &Registry) -> Self {
        Self(Source::ALL.map(|source| {
            let label = source.as_str();
            let counter =
                |outcome: &'static str| registry.counter(&DECISIONS, &[label.into(), outcome.into()]);
            SourceSeries {
                source,
                allow: counter("allow"),
                deny: counter("deny"),
                seconds: registry.histogram(&DECISION_SECONDS, &[label.into()]),
            }
        }))
    }
}

impl Metrics {
    /// Counts a decided login.
    pub(crate) fn login_decided(&self, record: &DecisionRecord) {
        let of_source = |series: &&SourceSeries| series.source == record.source;
        if let Some(series) = self.decisions.0.iter().find(of_source) {
            let outcome = if record.allowed() {
                &series.allow
            } else {
                &series.deny
            };
            outcome.increment(1);
            series.seconds.record(record.duration);
        }
    }
}
