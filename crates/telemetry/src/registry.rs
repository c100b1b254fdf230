//! The metrics that this process keeps, in Prometheus' text format.
//!
//! Each metric is declared once, as a [`Declared`] constant beside the code that counts; the registry makes handles of
//! them. There is no global recorder: who counts holds a handle.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tokio_util::sync::CancellationToken;

/// How often histograms are brought up to date.
const UPKEEP: Duration = Duration::from_secs(5);

/// What a metric does over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations, in seconds, into the buckets given.
    Histogram(&'static [f64]),
}

/// A metric as its documentation has it.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    /// The Prometheus name, unit and `_total` included.
    pub name: &'static str,
    /// What it does over time.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it counts, for a person; one line.
    pub help: &'static str,
}

/// The value of a label. It is a word of the program or the server's own name, so no user's name or address can get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelValue(Cow<'static, str>);

impl From<&'static str> for LabelValue {
    fn from(word: &'static str) -> Self {
        Self(Cow::Borrowed(word))
    }
}

impl LabelValue {
    /// The name that the configuration gave this server.
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
    /// A registry that knows `declared` and nothing else.
    ///
    /// # Errors
    /// When a histogram has no buckets.
    pub fn new(declared: &[Declared]) -> Result<Self, RegistryError> {
        let mut builder = PrometheusBuilder::new();
        let mut names = BTreeSet::new();
        for metric in declared {
            if !names.insert(metric.name) {
                return Err(RegistryError::Twice(metric.name));
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

    /// A handle to one series of a counter. It is shown as 0 from now on.
    pub fn counter(&self, metric: &Declared, labels: &[LabelValue]) -> Counter {
        self.recorder.register_counter(&key(metric, labels), &METADATA)
    }

    /// A handle to one series of a gauge.
    pub fn gauge(&self, metric: &Declared, labels: &[LabelValue]) -> Gauge {
        self.recorder.register_gauge(&key(metric, labels), &METADATA)
    }

    /// A handle to one series of a histogram.
    pub fn histogram(&self, metric: &Declared, labels: &[LabelValue]) -> Histogram {
        self.recorder.register_histogram(&key(metric, labels), &METADATA)
    }

    /// What `/metrics` answers.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves observations of histograms into their buckets every few seconds, until `stop`: between they pile up in
    /// memory, whether or not anybody ever looks at them.
    pub async fn upkeep(&self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(UPKEEP);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.handle.run_upkeep();
        }
    }
}

fn key(metric: &Declared, values: &[LabelValue]) -> Key {
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

/// Why a registry cannot be made: the declarations contradict themselves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Two declarations have one name.
    #[error("metric {0} is declared twice")]
    Twice(&'static str),
    /// A histogram has no buckets.
    #[error("a histogram is declared without buckets")]
    Buckets(#[from] BuildError),
}

#[cfg(test)]
mod tests;
