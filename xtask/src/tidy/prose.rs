//! Prose wraps at 100 columns.

use super::tree::Tree;
use super::violation::Violation;

/// The most characters of a line.
const MAX_COLUMNS: usize = 100;

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let pages = tree.iter().filter(|(path, _)| path.ends_with(".md"));
    pages.flat_map(|(path, text)| check_page(path, text)).collect()
}

/// Markdown, except code blocks, tables, headings and what cannot be wrapped.
fn check_page(path: &str, text: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        if start.starts_with("```") {
            in_code = !in_code;
        }
        if !in_code && !start.starts_with(['|', '#']) && is_too_wide(line, start) {
            found.push(violation(path, index + 1, line));
        }
    }
    found
}

/// Whether a line is too wide and its text, which starts at `text`, has a space to wrap at.
fn is_too_wide(line: &str, text: &str) -> bool {
    let text = text.trim_start_matches(['-', '*', '>', ' ']);
    line.chars().count() > MAX_COLUMNS && text.contains(' ')
}

fn violation(path: &str, line: usize, text: &str) -> Violation {
    let columns = text.chars().count();
    Violation {
        file: path.to_owned(),
        line,
        problem: format!("the line has {columns} columns, more than {MAX_COLUMNS}"),
        fix: "wrap it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        let found = check(&Tree::of(&[(path, text)]));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_page_wraps_at_100_columns() {
        let text = format!("a {}", "ä".repeat(98));
        assert_eq!(problems("docs/a.md", &text), Vec::<String>::new());
        for start in ["", "- ", "> "] {
            let found = problems("docs/a.md", &format!("# A\n{start}{text}ä\n"));
            assert_eq!(found.len(), 1, "{start}");
            assert!(found[0].starts_with("docs/a.md:2: the line has 10"), "{found:?}");
        }
    }

    #[test]
    fn code_tables_headings_and_long_words_are_exempt() {
        let wide = "a ".repeat(60);
        let word = "a".repeat(120);
        for text in [
            format!("```\n{wide}\n```\n"),
            format!("- item:\n  ```sh\n  {wide}\n  ```\n"),
            format!("| {wide} |\n"),
            format!("## {wide}\n"),
            format!("- {word}\n"),
        ] {
            assert_eq!(problems("README.md", &text), Vec::<String>::new(), "{text}");
        }
    }
}
