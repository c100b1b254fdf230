//! The metrics of the agent, one file per subsystem: names, meanings, and the methods that count.
//!
//! `docs/reference/metrics.md` is generated from [`declared`] and checked against it. No label can hold
//! a user's name or address: `telemetry::LabelValue` takes literals and the server's own name only.

mod breaker;
mod cache;
mod decisions;
mod ipc;
mod ocserv;
mod outbox;
mod portal;
mod sessions;

use std::sync::Arc;

use authz::Observation;
use telemetry::{Declared, LabelValue, Registry, RegistryError};

pub(crate) use ipc::IpcError;

/// The buckets of durations, in seconds.
const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

macro_rules! declare {
    ($($name:ident = $text:literal, $kind:expr, [$($label:literal),*], $help:literal;)*) => {
        $(const $name: telemetry::Declared =
            telemetry::Declared { name: $text, kind: $kind, labels: &[$($label),*], help: $help };)*
        /// The metrics of this subsystem, in the order of the documentation.
        pub(super) const DECLARED: &[telemetry::Declared] = &[$($name),*];
    };
}
use declare;

/// All metrics, in the order of the documentation.
#[must_use]
pub(crate) fn declared() -> Vec<Declared> {
    [
        sessions::DECLARED,
        decisions::DECLARED,
        portal::DECLARED,
        breaker::DECLARED,
        cache::DECLARED,
        outbox::DECLARED,
        ipc::DECLARED,
        ocserv::DECLARED,
    ]
    .concat()
}

/// Counts what the agent does; clones share it.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    server_id: LabelValue,
    decisions: Arc<decisions::DecisionSeries>,
    ipc: Arc<ipc::IpcSeries>,
}

impl Metrics {
    /// Registers all metrics, on the server of `agent_id`.
    ///
    /// # Errors
    /// When declarations contradict each other; a test rules that out.
    pub(crate) fn new(agent_id: &str) -> Result<Self, RegistryError> {
        let registry = Arc::new(Registry::new(&declared())?);
        sessions::register(&registry);
        ocserv::register(&registry);
        Ok(Self {
            decisions: Arc::new(decisions::DecisionSeries::register(&registry)),
            ipc: Arc::new(ipc::IpcSeries::register(&registry)),
            registry,
            server_id: LabelValue::server_id(agent_id),
        })
    }

    /// The registry that `/metrics` renders.
    #[must_use]
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Counts an observation of the decision pipeline.
    pub(crate) fn observe(&self, observation: &Observation) {
        match observation {
            Observation::Decided(record) => self.login_decided(record),
            Observation::Breaker(transition) => self.breaker_changed(transition),
            Observation::QueryEnded { end, duration } => self.query_ended(*end, *duration),
            _ => {}
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of things in memory are far below 2^52"
)]
fn gauge_value(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
