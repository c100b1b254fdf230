//! The handle of the registered metrics, and the macro that declares them.

use std::sync::Arc;

use telemetry::{LabelValue, Registry};

/// The buckets of durations, in seconds.
pub(super) const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// Declares the metrics of one subsystem: `NAME = "name", kind, ["label"], "help";`.
macro_rules! declare {
    ($($name:ident = $text:literal, $kind:expr, [$($label:literal),*], $help:literal;)*) => {
        $(const $name: telemetry::MetricSpec =
            telemetry::MetricSpec { name: $text, kind: $kind, labels: &[$($label),*], help: $help };)*
        /// The metrics of this subsystem, in the order of the documentation.
        pub(super) const DECLARED: &[telemetry::MetricSpec] = &[$($name),*];
    };
}
pub(super) use declare;

/// The registered metrics; clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(super) registry: Arc<Registry>,
    pub(super) server_id: LabelValue,
}

impl Metrics {
    /// The registry that `/metrics` renders.
    #[must_use]
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of things in memory are far below 2^52"
)]
pub(super) fn gauge_value(count: usize) -> f64 {
    count as f64
}
