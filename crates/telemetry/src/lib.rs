//! What the process tells the outside about itself: log lines on standard error, metrics and probes over HTTP.
//!
//! Leans on `tracing-subscriber`, `metrics` and `hyper`. Never knows what the lines are about, and never waits for whoever reads
//! them: a log reader that stalls costs lines, not logins.

mod http;
mod json;
mod logs;
mod registry;
mod writer;

pub use http::{Pages, Readiness, serve};
pub use logs::{Format, InitError, Level, LevelError, LogSettings, Logs, init};
pub use metrics::{Counter, Histogram};
pub use registry::{Declared, Kind, LabelValue, Registry, RegistryError};
