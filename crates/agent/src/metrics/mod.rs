//! The metrics of the agent, one file per subsystem.
//!
//! `docs/reference/metrics.md` is generated from [`declared`] and checked against it. No label can
//! hold a user's name or address: `telemetry::LabelValue` accepts literals and the server's id
//! only.

mod breaker;
mod cache;
mod certificates;
mod control_stream;
mod decisions;
mod handle;
mod ipc;
mod log;
mod ocserv;
mod outbox;
mod portal;
mod reloads;
mod sessions;

use std::sync::Arc;

use telemetry::{LabelValue, MetricSpec, Registry, RegistryError};

pub(crate) use decisions::DecisionMetrics;
pub(crate) use handle::Metrics;
pub(crate) use ipc::{IpcError, IpcMetrics};

/// Returns all metrics, in the order of the documentation.
#[must_use]
pub(crate) fn declared() -> Vec<MetricSpec> {
    [
        sessions::DECLARED,
        decisions::DECLARED,
        portal::DECLARED,
        certificates::DECLARED,
        reloads::DECLARED,
        breaker::DECLARED,
        cache::DECLARED,
        outbox::DECLARED,
        control_stream::DECLARED,
        ipc::DECLARED,
        ocserv::DECLARED,
        log::DECLARED,
    ]
    .concat()
}

impl Metrics {
    /// Registers all metrics, for the server of `agent_id`.
    ///
    /// # Errors
    /// When declarations contradict each other, which a test rules out.
    pub(crate) fn new(agent_id: &str) -> Result<Self, RegistryError> {
        let registry = Registry::new(&declared())?;
        sessions::register(&registry);
        ocserv::register(&registry);
        outbox::register(&registry);
        Ok(Self {
            registry: Arc::new(registry),
            server_id: LabelValue::server_id(agent_id),
        })
    }
}

#[cfg(test)]
mod tests;
