//! The table that comes out at the end.

use std::fmt::Write as _;

/// What went wrong.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The rows so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    cells: [String; 4],
    /// `None`: for information.
    good: Option<bool>,
    /// Whether the columns make room for it: an explanation is longer than any figure.
    stretches: bool,
}

const HEAD: [&str; 4] = ["figure", "floor", "measured", "ratio / limit"];

impl Report {
    /// A figure that has to be at most `limit`; `value` and `limit` are shown as `unit` says.
    pub(crate) fn at_most(&mut self, figure: &str, floor: &str, measured: &str, value: f64, limit: Limit) {
        let verdict = format!("{} <= {}", limit.show(value), limit.show(limit.value));
        self.push([figure, floor, measured, &verdict], Some(value <= limit.value));
    }

    /// A figure that has to be at least `limit`.
    pub(crate) fn at_least(&mut self, figure: &str, floor: &str, measured: &str, value: f64, limit: Limit) {
        let verdict = format!("{} >= {}", limit.show(value), limit.show(limit.value));
        self.push([figure, floor, measured, &verdict], Some(value >= limit.value));
    }

    /// A figure without a limit.
    pub(crate) fn note(&mut self, figure: &str, floor: &str, measured: &str) {
        self.push([figure, floor, measured, ""], None);
    }

    /// Figures that could not be measured: that is not good.
    pub(crate) fn broken(&mut self, figure: &str, why: &str) {
        self.push([figure, "", &format!("not measured: {why}"), ""], Some(false));
        if let Some(row) = self.rows.last_mut() {
            row.stretches = false;
        }
    }

    fn push(&mut self, cells: [&str; 4], good: Option<bool>) {
        let row = Row {
            cells: cells.map(str::to_owned),
            good,
            stretches: true,
        };
        eprintln!("  {}", row.line(&[0; 4]));
        self.rows.push(row);
    }

    /// Whether every figure is good.
    pub(crate) fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.good != Some(false))
    }

    /// Everything, in columns.
    pub(crate) fn table(&self) -> String {
        let head = Row {
            cells: HEAD.map(str::to_owned),
            good: None,
            stretches: true,
        };
        let mut widths = [0; 4];
        for row in self.rows.iter().filter(|row| row.stretches).chain([&head]) {
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
        let verdict = match self.good {
            Some(true) => "PASS",
            Some(false) => "FAIL",
            None => "",
        };
        let cells = self.cells.iter().zip(widths);
        let cells: Vec<String> = cells.map(|(cell, &width)| format!("{cell:<width$}")).collect();
        format!("{} | {verdict}", cells.join(" | ")).trim_end().to_owned()
    }
}

/// A limit and what it counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    value: f64,
    unit: &'static str,
    decimals: usize,
}

impl Limit {
    /// A ratio of the measured to the floor.
    pub(crate) const fn ratio(value: f64) -> Self {
        Self {
            value,
            unit: "",
            decimals: 2,
        }
    }

    /// An amount of something, shown with so many decimals.
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

/// Fails with `what` unless it is so.
pub(crate) fn ensure(so: bool, what: impl Into<String>) -> Result<(), Failure> {
    if so { Ok(()) } else { Err(what.into().into()) }
}

#[cfg(test)]
mod tests {
    use super::{Limit, Report};

    #[test]
    fn one_figure_over_its_limit_makes_the_whole_report_bad() {
        let mut report = Report::default();
        report.at_most("a", "1", "1.5", 1.5, Limit::ratio(1.6));
        report.at_least("b", "1", "12", 12.0, Limit::ratio(10.0));
        report.note("c", "", "3");
        assert!(report.is_good());
        report.at_least("d", "10", "7", 0.7, Limit::ratio(0.8));
        assert!(!report.is_good());
        let last = report.table().lines().last().map(str::to_owned);
        assert_eq!(
            last.as_deref(),
            Some("d      | 10    | 7        | 0.70 >= 0.80   | FAIL")
        );
    }

    #[test]
    fn figures_that_could_not_be_measured_are_bad() {
        let mut report = Report::default();
        report.broken("a", "no root");
        assert!(!report.is_good());
    }
}
