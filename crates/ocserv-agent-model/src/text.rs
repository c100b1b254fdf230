//! Untrusted text in log lines, replies and tables.

/// Returns `text` as one line of at most `max_chars` characters, without surrounding white space.
///
/// Characters that break or reorder a line become spaces: controls, line and paragraph separators,
/// bidirectional marks, embeddings, overrides and isolates.
#[must_use]
pub fn one_line(text: &str, max_chars: usize) -> String {
    let start = text.trim_start_matches(|c: char| c.is_whitespace() || distorts_line(c));
    let mut line: String = start
        .chars()
        .take(max_chars)
        .map(|c| if distorts_line(c) { ' ' } else { c })
        .collect();
    line.truncate(line.trim_end().len());
    line
}

/// Returns `text` as one line of any length, in which characters that [`one_line`] drops are
/// escaped as in Rust: `\n`, `\u{1b}`.
#[must_use]
pub fn escaped_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match distorts_line(c) {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

/// Whether `c` ends a line: a control character, or a Unicode line or paragraph separator.
pub(crate) fn breaks_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Whether `c` ends a line or changes the direction of the text after it.
fn distorts_line(c: char) -> bool {
    let bidi =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    bidi || breaks_line(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_distort_a_line_are_escaped_and_no_others() {
        for (text, line) in [
            ("plain \\ \"zoë\"", "plain \\ \"zoë\""),
            ("a\nb\u{1b}[31m", "a\\nb\\u{1b}[31m"),
            ("a\u{2028}b\u{202e}", "a\\u{2028}b\\u{202e}"),
        ] {
            assert_eq!(escaped_line(text), line);
        }
    }

    #[test]
    fn text_of_any_shape_becomes_one_bounded_line() {
        for (text, line) in [
            ("plain", "plain"),
            ("two\nlines", "two lines"),
            ("a\r\nb\tc\0d", "a  b c d"),
            ("a\u{85}b\u{2028}c\u{2029}d", "a b c d"),
            ("a\u{202e}b\u{2066}c\u{61c}d\u{200f}e", "a b c d e"),
            (" \n\u{1b} padded \u{2028}\n", "padded"),
            ("\u{1b}[31mred", "[31mred"),
            ("zoë 日本", "zoë 日本"),
            ("0123456789abc", "0123456789"),
            ("012345678 9", "012345678"),
            ("ééééééééééé", "éééééééééé"),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(one_line(text, 10), line, "{text:?}");
        }
    }
}
