//! The metrics of the process, in Prometheus' text format.
//!
//! Each metric is declared once, as a [`MetricSpec`]; the registry creates handles. There is no
//! global recorder.

use std::borrow::Cow;
use std::collections::BTreeSet;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A value that only increases.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// Observations, in seconds, counted in these buckets (upper bounds).
    Histogram(&'static [f64]),
}

/// The declaration of a metric.
#[derive(Debug, Clone, Copy)]
pub struct MetricSpec {
    /// The Prometheus name, unit and `_total` included.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Description, one line.
    pub help: &'static str,
}

/// The value of a label: a literal or the server's own name, so never a username or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelValue(Cow<'static, str>);

impl From<&'static str> for LabelValue {
    fn from(literal: &'static str) -> Self {
        Self(Cow::Borrowed(literal))
    }
}

impl LabelValue {
    /// Creates the value from the configured name of this server.
    #[must_use]
    pub fn server_id(agent_id: &str) -> Self {
        Self(Cow::Owned(agent_id.to_owned()))
    }
}

/// All metrics of one process.
pub struct Registry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

impl Registry {
    /// Creates a registry of these metrics.
    ///
    /// # Errors
    /// [`RegistryError`] for a repeated name and for a histogram without buckets.
    pub fn new(declared: &[MetricSpec]) -> Result<Self, RegistryError> {
        let mut builder = PrometheusBuilder::new();
        let mut names = BTreeSet::new();
        for metric in declared {
            if !names.insert(metric.name) {
                return Err(RegistryError::Duplicate(metric.name));
            }
            if let Kind::Histogram(buckets) = metric.kind {
                builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
            }
        }
        let recorder = builder.build_recorder();
        for metric in declared {
            let (name, help) = (metric.name.into(), SharedString::const_str(metric.help));
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram(_) => recorder.describe_histogram(name, None, help),
            }
        }
        let handle = recorder.handle();
        Ok(Self { recorder, handle })
    }

    /// Returns a handle to one series of a counter, which is rendered from now on, as 0.
    pub fn counter(&self, metric: &MetricSpec, labels: &[LabelValue]) -> Counter {
        self.recorder.register_counter(&key(metric, labels), &METADATA)
    }

    /// Returns a handle to one series of a gauge.
    pub fn gauge(&self, metric: &MetricSpec, labels: &[LabelValue]) -> Gauge {
        self.recorder.register_gauge(&key(metric, labels), &METADATA)
    }

    /// Returns a handle to one series of a histogram.
    pub fn histogram(&self, metric: &MetricSpec, labels: &[LabelValue]) -> Histogram {
        self.recorder.register_histogram(&key(metric, labels), &METADATA)
    }

    /// Renders all metrics.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves observations of histograms into their buckets, as [`Self::render`] does: until then
    /// they accumulate in memory. Call it every minute or so.
    pub fn fold_histograms(&self) {
        self.handle.run_upkeep();
    }
}

fn key(metric: &MetricSpec, values: &[LabelValue]) -> Key {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let labels = metric
        .labels
        .iter()
        .zip(values)
        .map(|(name, value)| match &value.0 {
            Cow::Borrowed(word) => Label::from_static_parts(name, word),
            Cow::Owned(text) => Label::new(*name, text.clone()),
        });
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}

/// Why the declarations are invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Two metrics have the same name.
    #[error("metric {0} is declared twice")]
    Duplicate(&'static str),
    /// A histogram has no buckets.
    #[error("a histogram is declared without buckets")]
    Buckets(#[from] BuildError),
}

#[cfg(test)]
mod tests;
