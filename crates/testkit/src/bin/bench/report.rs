//! The table of results.

use std::fmt::Write as _;

/// Why figures could not be measured.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The results so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    cells: [String; 4],
    /// Whether the figure is within its limit; `None` without a limit.
    passed: Option<bool>,
    /// Whether its cells count for the width of columns; those with an error are too long.
    sets_width: bool,
}

const HEAD: [&str; 4] = ["figure", "floor", "measured", "ratio / limit"];

impl Report {
    /// Adds a figure that must be at most `limit`.
    pub(crate) fn at_most(&mut self, figure: &str, floor: &str, measured: &str, value: f64, limit: Limit) {
        let verdict = format!("{} <= {}", limit.show(value), limit.show(limit.value));
        self.push([figure, floor, measured, &verdict], Some(value <= limit.value));
    }

    /// Adds a figure that must be at least `limit`.
    pub(crate) fn at_least(&mut self, figure: &str, floor: &str, measured: &str, value: f64, limit: Limit) {
        let verdict = format!("{} >= {}", limit.show(value), limit.show(limit.value));
        self.push([figure, floor, measured, &verdict], Some(value >= limit.value));
    }

    /// Adds a figure without a limit.
    pub(crate) fn note(&mut self, figure: &str, floor: &str, measured: &str) {
        self.push([figure, floor, measured, ""], None);
    }

    /// Adds figures that could not be measured, which is a failure.
    pub(crate) fn not_measured(&mut self, figure: &str, why: &str) {
        self.push([figure, "", &format!("not measured: {why}"), ""], Some(false));
        if let Some(row) = self.rows.last_mut() {
            row.sets_width = false;
        }
    }

    fn push(&mut self, cells: [&str; 4], passed: Option<bool>) {
        let row = Row {
            cells: cells.map(str::to_owned),
            passed,
            sets_width: true,
        };
        eprintln!("  {}", row.line(&[0; 4]));
        self.rows.push(row);
    }

    /// Whether every figure is within its limit.
    pub(crate) fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.passed != Some(false))
    }

    /// Formats all rows in columns.
    pub(crate) fn table(&self) -> String {
        let head = Row {
            cells: HEAD.map(str::to_owned),
            passed: None,
            sets_width: true,
        };
        let mut widths = [0; 4];
        for row in self.rows.iter().filter(|row| row.sets_width).chain([&head]) {
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut table = format!("{}\n", head.line(&widths));
        for row in &self.rows {
            // Writing into a String cannot fail.
            let _ = writeln!(table, "{}", row.line(&widths));
        }
        table
    }
}

impl Row {
    fn line(&self, widths: &[usize; 4]) -> String {
        let verdict = match self.passed {
            Some(true) => "PASS",
            Some(false) => "FAIL",
            None => "",
        };
        let cells = self.cells.iter().zip(widths);
        let cells: Vec<String> = cells.map(|(cell, &width)| format!("{cell:<width$}")).collect();
        format!("{} | {verdict}", cells.join(" | ")).trim_end().to_owned()
    }
}

/// A limit and its unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    value: f64,
    unit: &'static str,
    decimals: usize,
}

impl Limit {
    /// A limit of the ratio of the measured value to the floor.
    pub(crate) const fn ratio(value: f64) -> Self {
        Self {
            value,
            unit: "",
            decimals: 2,
        }
    }

    /// A limit of a value, formatted with this many decimals.
    pub(crate) const fn of(value: f64, unit: &'static str, decimals: usize) -> Self {
        Self {
            value,
            unit,
            decimals,
        }
    }

    fn show(&self, value: f64) -> String {
        format!("{value:.*}{}", self.decimals, self.unit)
    }
}

/// Fails with `otherwise` unless a condition holds.
pub(crate) fn ensure(condition: bool, otherwise: impl Into<String>) -> Result<(), Failure> {
    if condition {
        Ok(())
    } else {
        Err(otherwise.into().into())
    }
}

#[cfg(test)]
mod tests {
    use super::{Limit, Report};

    #[test]
    fn one_figure_over_its_limit_fails_the_report() {
        let mut report = Report::default();
        report.at_most("a", "1", "1.5", 1.5, Limit::ratio(1.6));
        report.at_least("b", "1", "12", 12.0, Limit::ratio(10.0));
        report.note("c", "", "3");
        assert!(report.passed());
        report.at_least("d", "10", "7", 0.7, Limit::ratio(0.8));
        assert!(!report.passed());
        let last = report.table().lines().last().map(str::to_owned);
        assert_eq!(
            last.as_deref(),
            Some("d      | 10    | 7        | 0.70 >= 0.80   | FAIL")
        );
    }

    #[test]
    fn figures_that_could_not_be_measured_fail_the_report() {
        let mut report = Report::default();
        report.not_measured("a", "no root");
        assert!(!report.passed());
    }
}
