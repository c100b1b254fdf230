//! Durable appends of groups of 64 events, beside a raw log of the same bytes, read from the
//! estimates of `cargo bench -p outbox --bench append`.

use super::estimate::estimate;
use super::report::{Failure, Limit, Report};

/// Events in a group.
const GROUP: f64 = 64.0;
/// The least share of the raw log's throughput.
const SHARE: Limit = Limit::ratio(0.35);

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let floor = estimate("raw_log_append_64")?;
    let measured = estimate("event_store_append_64")?;
    let rate = |nanoseconds: f64| format!("{:.0} events/s", GROUP * 1e9 / nanoseconds);
    report.at_least(
        "durable append of 64 events, beside a raw log",
        &rate(floor),
        &rate(measured),
        floor / measured,
        SHARE,
    );
    Ok(())
}
