//! Times from the wire as text.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

/// The first second that RFC 3339 has no text for: the year 10000.
const TOO_LATE: Duration = Duration::from_secs(253_402_300_800);

/// A time as RFC 3339, UTC, in milliseconds; `None` where it is not between the years 1970 and 9999.
pub(crate) fn text(time: Timestamp) -> Option<String> {
    let time = SystemTime::try_from(time).ok()?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (since < TOO_LATE).then(|| humantime::format_rfc3339_millis(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_utc_or_not_at_all() {
        let at = |seconds, nanos| text(Timestamp { seconds, nanos });
        assert_eq!(at(0, 0).unwrap(), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(1_700_000_000, 5_000_000).unwrap(), "2023-11-14T22:13:20.005Z");
        assert_eq!(
            at(253_402_300_799, 999_999_999).unwrap(),
            "9999-12-31T23:59:59.999Z"
        );
        for (seconds, nanos) in [
            (-1, 0),
            (253_402_300_800, 0),
            (253_402_300_799, i32::MAX),
            (i64::MAX, i32::MAX),
            (i64::MIN, i32::MIN),
        ] {
            assert_eq!(at(seconds, nanos), None, "{seconds} {nanos}");
        }
    }
}
