//! What a rule reports.

use std::fmt;

/// One broken rule, printed as one line: file, line, problem, fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub(super) file: String,
    /// From 1.
    pub(super) line: usize,
    pub(super) problem: String,
    pub(super) fix: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.file, self.line, self.problem, self.fix)
    }
}

/// The number of the first line, from 1, that satisfies `matches`; 1 where none does.
pub(super) fn line_where(text: &str, matches: impl Fn(&str) -> bool) -> usize {
    text.lines()
        .position(|line| matches(line.trim()))
        .map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_is_one_line_that_editors_can_follow() {
        let violation = Violation {
            file: "a/b.rs".to_owned(),
            line: 7,
            problem: "the file is too long".to_owned(),
            fix: "split it",
        };
        assert_eq!(violation.to_string(), "a/b.rs:7: the file is too long; split it");
    }
}
