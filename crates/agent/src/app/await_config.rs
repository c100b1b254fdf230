//! Waits for a valid configuration. A process that ended instead would be started again at once for
//! each connection in the backlog of systemd's socket.

use std::io::Write as _;
use std::time::Duration;

use super::config_source::ConfigSource;
use super::systemd::{self, Supervision};
use crate::config::{Config, ConfigError};
use crate::ipc::IpcListener;

/// Time between two looks at the configuration.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Reads the configuration until it is valid. Meanwhile each connection to `listener` is closed
/// without an answer, so that helpers decide at once by their `--on-agent-down`.
///
/// systemd is told that the service is ready, with a status that says what it is not: a start that
/// does not end would delay ocserv, which starts after it.
pub(super) fn await_config(
    mut error: ConfigError,
    source: &ConfigSource,
    listener: Option<&IpcListener>,
    supervision: Supervision,
) -> Config {
    report(&error, supervision);
    loop {
        match listener {
            Some(listener) => listener.close_connections(RETRY_INTERVAL),
            None => std::thread::sleep(RETRY_INTERVAL),
        }
        systemd::alive();
        match source.load() {
            Ok(config) => return config,
            Err(new) if new != error => {
                report(&new, supervision);
                error = new;
            }
            Err(_) => {}
        }
    }
}

/// Writes every problem to standard error, as the log has not started, and the first to systemd.
fn report(error: &ConfigError, supervision: Supervision) {
    let text = format!(
        "{error}\nno login is decided until the configuration is valid; it is read every {RETRY_INTERVAL:?}"
    );
    let lines = telemetry::error_lines(&text, supervision.journal);
    let _unread = std::io::stderr().write_all(lines.as_bytes());
    let first = error
        .problems
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    systemd::ready(&format!(
        "no login is decided, the configuration is invalid: {first}"
    ));
}
