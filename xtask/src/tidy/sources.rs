//! Texts: files stay small, no crate is an empty shell, nothing is left unfinished, no path of one machine.

use super::{Tree, Violation};

/// Lines that a source file may have.
const SOURCE_LIMIT: usize = 400;

/// Lines that a file of tests or benches may have: tables of cases grow.
const TEST_LIMIT: usize = 600;

/// Lines of code that a crate has at least, over all its sources.
const SHELL_LIMIT: usize = 5;

/// Files that are not written here.
const FOREIGN: [&str; 3] = ["Cargo.lock", "LICENSE", super::generated::DIR];

/// Words that say "not finished". Split, so that this file does not find itself.
const UNFINISHED: [&str; 4] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!("),
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = shells(tree);
    for (path, text) in tree.iter() {
        if FOREIGN.iter().any(|foreign| path.starts_with(foreign)) {
            continue;
        }
        found.extend(too_long(path, text));
        for (index, line) in text.lines().enumerate() {
            found.extend(bad_line(path, index + 1, line));
        }
    }
    found
}

fn too_long(path: &str, text: &str) -> Option<Violation> {
    let is_test = path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs");
    let limit = if is_test { TEST_LIMIT } else { SOURCE_LIMIT };
    let lines = text.lines().count();
    (path.ends_with(".rs") && lines > limit).then(|| Violation {
        file: path.to_owned(),
        line: limit + 1,
        what: format!("the file has {lines} lines, more than {limit}"),
        mend: "give each of its ideas a file of its own",
    })
}

fn bad_line(path: &str, number: usize, line: &str) -> Option<Violation> {
    let violation = |what: String, mend| {
        Some(Violation {
            file: path.to_owned(),
            line: number,
            what,
            mend,
        })
    };
    if let Some(word) = UNFINISHED.into_iter().find(|word| has_word(line, word)) {
        return violation(format!("{word} is left"), "do it now, or take the words out");
    }
    if let Some(place) = machine_path(line) {
        return violation(
            format!("{place} is a path of one machine"),
            "take it from the environment or a parameter",
        );
    }
    None
}

/// Whether `word` stands in the line by itself, not as a part of a longer word.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part) && (word.ends_with('(') || !after.is_some_and(part))
    })
}

/// An absolute path into somebody's home or workplace.
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

fn shells(tree: &Tree) -> Vec<Violation> {
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
        if lines < SHELL_LIMIT {
            found.push(Violation {
                file: path.to_owned(),
                line: 1,
                what: format!("the crate is an empty shell: {lines} lines of code"),
                mend: "fill it, or take it out until it is needed",
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

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_source_has_at_most_400_lines_and_a_test_600() {
        let lines = |count: usize| "x();\n".repeat(count);
        assert!(found("crates/a/src/b.rs", &lines(400)).is_empty());
        assert_eq!(found("crates/a/src/b.rs", &lines(401)).len(), 1);
        for tests in [
            "crates/a/src/b/tests.rs",
            "crates/a/tests/b.rs",
            "crates/a/benches/b.rs",
        ] {
            assert!(found(tests, &lines(600)).is_empty(), "{tests}");
            assert_eq!(found(tests, &lines(601)).len(), 1, "{tests}");
        }
        assert!(found("docs/long.md", &lines(999)).is_empty());
        assert!(found("crates/ocserv-agent-proto/src/generated/a.rs", &lines(999)).is_empty());
    }

    #[test]
    fn unfinished_work_is_found_as_a_word_and_nowhere_else() {
        for word in UNFINISHED {
            let said = found("a.sh", &format!("fine\n# {word}: later\n"));
            assert_eq!(said.len(), 1, "{word}");
            assert!(said[0].starts_with("a.sh:2:"), "{said:?}");
        }
        assert!(found("a.sh", concat!("mktemp lab.XX", "XXXX")).is_empty());
        assert!(found("a.rs", "METODOS").is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_found_and_others_are_not() {
        for bad in [
            concat!("/ro", "ot/x"),
            concat!("\"/ho", "me/jo/x\""),
            concat!("(/wo", "rk/main)"),
        ] {
            assert_eq!(found("a.md", bad).len(), 1, "{bad}");
        }
        for good in [
            "/home/",
            "https://x.org/work/a",
            "some/work/dir",
            "${dir}/root/x",
            "/rootfs",
            "/srv/home/x",
        ] {
            assert!(found("a.md", good).is_empty(), "{good}");
        }
    }

    #[test]
    fn a_crate_without_code_is_an_empty_shell() {
        assert_eq!(found("crates/a/src/lib.rs", "//! Soon.\n\npub mod a;\n").len(), 1);
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "//! It.\n\nmod a;\n"),
            ("crates/a/src/a.rs", "fn a() {\n  b();\n  c();\n  d();\n}\n"),
        ]);
        assert!(check(&tree).is_empty(), "the code may stand in another file");
    }
}
