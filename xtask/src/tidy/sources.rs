//! Source text: file length, empty crates, unfinished work, paths of a developer's machine.

use super::tree::Tree;
use super::violation::Violation;

/// The most lines of a source file.
const SOURCE_LIMIT: usize = 400;

/// The most lines of a file of tests or benches, which holds tables of cases.
const TEST_LIMIT: usize = 600;

/// The fewest lines of code of a crate, over all its sources.
const MIN_CODE_LINES: usize = 5;

/// Files that are generated or copied.
const EXEMPT: [&str; 3] = ["Cargo.lock", "LICENSE", super::generated::DIR];

/// Markers of unfinished work. Split, so that this file does not match.
const UNFINISHED: [&str; 4] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!("),
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = check_empty_crates(tree);
    for (path, text) in tree.iter() {
        if EXEMPT.iter().any(|exempt| path.starts_with(exempt)) {
            continue;
        }
        found.extend(check_length(path, text));
        for (index, line) in text.lines().enumerate() {
            found.extend(check_line(path, index + 1, line));
        }
    }
    found
}

fn check_length(path: &str, text: &str) -> Option<Violation> {
    let is_test = path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs");
    let limit = if is_test { TEST_LIMIT } else { SOURCE_LIMIT };
    let lines = text.lines().count();
    (path.ends_with(".rs") && lines > limit).then(|| Violation {
        file: path.to_owned(),
        line: limit + 1,
        problem: format!("the file has {lines} lines, more than {limit}"),
        fix: "split it into one file per topic",
    })
}

fn check_line(path: &str, number: usize, line: &str) -> Option<Violation> {
    let violation = |problem: String, fix| {
        Some(Violation {
            file: path.to_owned(),
            line: number,
            problem,
            fix,
        })
    };
    if let Some(word) = UNFINISHED.into_iter().find(|word| has_word(line, word)) {
        return violation(
            format!("{word} marks unfinished work"),
            "finish it, or remove the marker",
        );
    }
    if let Some(place) = machine_path(line) {
        return violation(
            format!("{place} is a path of a developer's machine"),
            "read it from the environment or a parameter",
        );
    }
    None
}

/// Whether `word` is in the line and not part of a longer word.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part) && (word.ends_with('(') || !after.is_some_and(part))
    })
}

/// The start of an absolute path into a home or work directory.
fn machine_path(line: &str) -> Option<String> {
    for place in [
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
    ] {
        for (at, _) in line.match_indices(place) {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || "._-~}$*".contains(c)) {
                continue;
            }
            if !place.starts_with("/ho") {
                return Some(place.to_owned());
            }
            let name: String = line[at + place.len()..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || "._-".contains(*c))
                .collect();
            if !name.is_empty() && line[at + place.len() + name.len()..].starts_with('/') {
                return Some(format!("{place}{name}/"));
            }
        }
    }
    None
}

fn check_empty_crates(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, _) in tree.iter() {
        let Some(source) = path
            .strip_suffix("lib.rs")
            .or_else(|| path.strip_suffix("main.rs"))
        else {
            continue;
        };
        if !source.ends_with("/src/") {
            continue;
        }
        let texts = tree
            .iter()
            .filter(|(file, _)| file.starts_with(source) && file.ends_with(".rs"));
        let lines: usize = texts.map(|(_, text)| code_lines(text)).sum();
        if lines < MIN_CODE_LINES {
            found.push(Violation {
                file: path.to_owned(),
                line: 1,
                problem: format!("the crate has {lines} lines of code"),
                fix: "remove it until it is needed",
            });
        }
    }
    found
}

fn code_lines(text: &str) -> usize {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_source_has_at_most_400_lines_and_a_test_600() {
        let lines = |count: usize| "x();\n".repeat(count);
        assert!(problems("crates/a/src/b.rs", &lines(400)).is_empty());
        assert_eq!(problems("crates/a/src/b.rs", &lines(401)).len(), 1);
        for tests in [
            "crates/a/src/b/tests.rs",
            "crates/a/tests/b.rs",
            "crates/a/benches/b.rs",
        ] {
            assert!(problems(tests, &lines(600)).is_empty(), "{tests}");
            assert_eq!(problems(tests, &lines(601)).len(), 1, "{tests}");
        }
        assert!(problems("docs/long.md", &lines(999)).is_empty());
        assert!(problems("crates/ocserv-agent-proto/src/generated/a.rs", &lines(999)).is_empty());
    }

    #[test]
    fn unfinished_work_is_found_as_a_whole_word_only() {
        for word in UNFINISHED {
            let found = problems("a.sh", &format!("fine\n# {word}: later\n"));
            assert_eq!(found.len(), 1, "{word}");
            assert!(found[0].starts_with("a.sh:2:"), "{found:?}");
        }
        assert!(problems("a.sh", concat!("mktemp lab.XX", "XXXX")).is_empty());
        assert!(problems("a.rs", "METODOS").is_empty());
    }

    #[test]
    fn only_paths_of_a_developers_machine_are_found() {
        for bad in [
            concat!("/ro", "ot/x"),
            concat!("\"/ho", "me/jo/x\""),
            concat!("(/wo", "rk/main)"),
        ] {
            assert_eq!(problems("a.md", bad).len(), 1, "{bad}");
        }
        for good in [
            "/home/",
            "https://x.org/work/a",
            "some/work/dir",
            "${dir}/root/x",
            "/rootfs",
            "/srv/home/x",
        ] {
            assert!(problems("a.md", good).is_empty(), "{good}");
        }
    }

    #[test]
    fn a_crate_without_code_is_found() {
        assert_eq!(
            problems("crates/a/src/lib.rs", "//! Empty.\n\npub mod a;\n").len(),
            1
        );
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "//! It.\n\nmod a;\n"),
            ("crates/a/src/a.rs", "fn a() {\n  b();\n  c();\n  d();\n}\n"),
        ]);
        assert!(check(&tree).is_empty(), "the code may be in another file");
    }
}
