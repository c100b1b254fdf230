//! Log lines on standard error, metrics and probes over HTTP.
//!
//! Leans on `tracing-subscriber`, `metrics` and `hyper`. Never knows what is logged or counted,
//! and never blocks on a reader: a stalled reader of the log costs lines, not logins.

mod http;
mod journal;
mod json;
mod logs;
mod registry;
mod writer;

pub use http::{Endpoints, Readiness, serve};
pub use journal::{error_lines, is_journal};
pub use logs::{DroppedLines, Format, InitError, Level, LevelError, LogSettings, Logs, init};
pub use metrics::{Counter, Histogram};
pub use registry::{Kind, LabelValue, MetricSpec, Registry, RegistryError};
