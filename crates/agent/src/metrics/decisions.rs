//! Metrics of decided logins.

use authz::DecisionRecord;
use ocserv_agent_model::Source;
use telemetry::{Counter, Histogram, Kind};

use super::handle::{Metrics, SECONDS, declare};

declare! {
    DECISIONS = "ocserv_agent_decisions_total", Kind::Counter, ["source", "outcome"],
        "Decided logins, by the source of the decision and its outcome.";
    DECISION_SECONDS = "ocserv_agent_decision_duration_seconds", Kind::Histogram(SECONDS), ["source"],
        "Time from a login's request to its decision.";
}

/// Counts decided logins. Its series are looked up once, because every login counts.
pub(crate) struct DecisionMetrics([SourceSeries; Source::ALL.len()]);

struct SourceSeries {
    source: Source,
    allow: Counter,
    deny: Counter,
    seconds: Histogram,
}

impl DecisionMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let registry = &metrics.registry;
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

    /// Counts a decided login.
    pub(crate) fn login_decided(&self, record: &DecisionRecord) {
        let of_source = |series: &&SourceSeries| series.source == record.source;
        if let Some(series) = self.0.iter().find(of_source) {
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
