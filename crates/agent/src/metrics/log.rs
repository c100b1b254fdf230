//! Metrics of the log.

use telemetry::Kind;

use super::handle::{Metrics, declare};

declare! {
    LINES_DROPPED = "ocserv_agent_log_lines_dropped_total", Kind::Counter, [],
        "Log lines lost because the reader of standard error was too slow.";
}

impl Metrics {
    /// Sets the number of lost log lines.
    pub(crate) fn set_log_lines_dropped(&self, lines: u64) {
        self.registry.counter(&LINES_DROPPED, &[]).absolute(lines);
    }
}
