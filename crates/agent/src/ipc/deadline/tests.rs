use super::*;

#[test]
fn the_helpers_clock_only_ever_shortens_the_time_that_it_stated() {
    const NOW: u64 = 100_000_000;
    const HOUR: u64 = 3_600_000;
    let late = Err(TooLate);
    for (deadline_ms, answer_by, expected) in [
        (None, None, Ok(None)),
        (Some(4_000), None, Ok(Some(4_000))),
        (Some(4_000), Some(NOW + 800), Ok(Some(800))),
        (Some(4_000), Some(NOW + 5_000), Ok(Some(4_000))),
        (None, Some(NOW + 800), Ok(Some(800))),
        (Some(4_000), Some(NOW + 1), Ok(Some(1))),
        (Some(4_000), Some(NOW), late),
        (Some(4_000), Some(NOW - 1), late),
        (Some(4_000), Some(NOW - HOUR), late),
        // Another clock.
        (Some(4_000), Some(NOW - HOUR - 1), Ok(Some(4_000))),
        (Some(4_000), Some(NOW + HOUR + 1), Ok(Some(4_000))),
        (Some(4_000), Some(0), Ok(Some(4_000))),
        (Some(4_000), Some(u64::MAX), Ok(Some(4_000))),
        (None, Some(u64::MAX), Ok(None)),
    ] {
        let request = ipc::Request {
            deadline_ms,
            answer_by_boottime_ms: answer_by,
            ..ipc::Request::default()
        };
        let expected = expected.map(|left| left.map(Duration::from_millis));
        let now = Some(Duration::from_millis(NOW));
        assert_eq!(left(&request, now), expected, "{deadline_ms:?} {answer_by:?}");
        let without = deadline_ms.map(Duration::from_millis);
        assert_eq!(left(&request, None), Ok(without), "a system without that clock");
    }
}
