//! Prose in Markdown and in comments wraps at 100 columns.

use super::generated;
use super::tree::Tree;
use super::violation::Violation;

/// The most characters of a line.
const MAX_COLUMNS: usize = 100;

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in tree.iter().filter(|(path, _)| !path.starts_with(generated::DIR)) {
        if path.ends_with(".md") {
            found.extend(check_text(path, text, |line| Some(line)));
        } else if path.ends_with(".rs") {
            found.extend(check_text(path, text, comment));
        }
    }
    found
}

/// The text of a line that is a comment.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']))
}

/// Checks the lines that hold prose, except code blocks, tables, headings and what cannot be
/// wrapped.
fn check_text(path: &str, text: &str, prose: fn(&str) -> Option<&str>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        let Some(prose) = prose(line) else {
            in_code = false;
            continue;
        };
        let start = prose.trim_start();
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

    #[test]
    fn a_comment_wraps_at_100_columns() {
        let wide = "a ".repeat(60);
        for marker in ["//", "///", "    //!"] {
            let found = problems("crates/a/src/b.rs", &format!("fn f() {{}}\n{marker} {wide}\n"));
            assert_eq!(found.len(), 1, "{marker}");
            assert!(found[0].starts_with("crates/a/src/b.rs:2:"), "{found:?}");
        }
        for text in [
            format!("let x = \"{wide}\";\n"),
            format!("/// ```\n/// {wide}\n/// ```\n"),
            format!("//! | {wide} |\n"),
            format!("/// https://{}\n", "a".repeat(100)),
        ] {
            assert_eq!(
                problems("crates/a/src/b.rs", &text),
                Vec::<String>::new(),
                "{text}"
            );
        }
        assert_eq!(
            problems(&format!("{}/b.rs", generated::DIR), &format!("// {wide}")).len(),
            0
        );
    }
}
