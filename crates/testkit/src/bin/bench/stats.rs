//! Quantiles, and readable times.

use std::time::Duration;

/// Returns the value that `part` of all values (between 0 and 1) do not exceed; zero without
/// values.
pub(crate) fn quantile(values: &mut [Duration], part: f64) -> Duration {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index between 0 and the last one"
    )]
    let index = (last as f64 * part).round() as usize;
    values.get(index.min(last)).copied().unwrap_or_default()
}

/// Returns the median; zero without values.
pub(crate) fn median(values: &mut [Duration]) -> Duration {
    quantile(values, 0.5)
}

/// Returns the median of plain numbers; zero without values.
pub(crate) fn median_of(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Returns `time` in multiples of `floor`.
pub(crate) fn ratio(time: Duration, floor: Duration) -> f64 {
    time.as_secs_f64() / floor.as_secs_f64()
}

/// Returns a time in microseconds.
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Formats a time in the unit that leaves few digits.
pub(crate) fn show(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 1e-3 {
        format!("{:.2} ms", seconds * 1e3)
    } else if seconds >= 1e-6 {
        format!("{:.0} µs", seconds * 1e6)
    } else {
        format!("{:.0} ns", seconds * 1e9)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{median, median_of, quantile, show};

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let mut times: Vec<Duration> = (1..=101).rev().map(Duration::from_millis).collect();
        assert_eq!(median(&mut times), Duration::from_millis(51));
        assert_eq!(quantile(&mut times, 0.99), Duration::from_millis(100));
        assert_eq!(quantile(&mut times, 1.0), Duration::from_millis(101));
        assert_eq!(quantile(&mut [], 0.99), Duration::ZERO);
        assert_eq!(median_of(&mut [3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
    }

    #[test]
    fn times_are_shown_in_a_unit_that_fits() {
        for (nanos, text) in [
            (250, "250 ns"),
            (42_000, "42 µs"),
            (1_500_000, "1.50 ms"),
            (2_500_000_000, "2.50 s"),
        ] {
            assert_eq!(show(Duration::from_nanos(nanos)), text);
        }
    }
}
