//! The crates that each crate depends on, the same in this table, the manifests and
//! `docs/architecture.md`.

use super::manifests::{Manifest, members};
use super::tree::Tree;
use super::violation::{Violation, line_where};

const ARCHITECTURE: &str = "docs/architecture.md";
const TABLE: &str = "xtask/src/tidy/arrows.rs";

/// Every crate of the workspace with the crates of the workspace that it depends on. A new entry
/// needs a page in `docs/decisions/`.
const ARROWS: [(&str, &[&str]); 20] = [
    ("ocserv-agent-model", &[]),
    ("ipc", &[]),
    ("ocserv-agent-proto", &[]),
    ("occtl", &[]),
    ("telemetry", &[]),
    ("storage", &[]),
    ("resilience", &["ocserv-agent-model"]),
    ("tls", &["resilience"]),
    ("policy", &["ocserv-agent-model"]),
    ("sessions", &["ocserv-agent-model"]),
    ("ocserv", &["ocserv-agent-model", "occtl"]),
    ("outbox", &["ocserv-agent-model", "storage"]),
    ("authz", &["ocserv-agent-model", "resilience", "storage"]),
    (
        "portal",
        &["ocserv-agent-model", "ocserv-agent-proto", "tls", "resilience"],
    ),
    (
        "agent",
        &[
            "ocserv-agent-model",
            "ipc",
            "ocserv-agent-proto",
            "occtl",
            "tls",
            "telemetry",
            "resilience",
            "policy",
            "sessions",
            "ocserv",
            "outbox",
            "storage",
            "authz",
            "portal",
        ],
    ),
    ("testkit", &["ipc", "ocserv-agent-proto", "occtl"]),
    ("vpn-auth", &["ipc"]),
    ("ocserv-agent", &["agent"]),
    (
        "portal-dev",
        &["ocserv-agent-proto", "tls", "ocserv-agent-model", "policy"],
    ),
    ("xtask", &[]),
];

/// What tests of any crate may also depend on.
const FOR_TESTS: [&str; 3] = ["testkit", "ocserv-agent-model", "ipc"];

/// The crate without dependencies of ours even in its tests: it checks the others when they are
/// broken.
const ALONE: &str = "xtask";

type Arrows<'a> = &'a [(&'a str, &'a [&'a str])];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = check_manifests(tree, &ARROWS);
    found.extend(check_architecture(tree, &ARROWS));
    found
}

fn check_manifests(tree: &Tree, arrows: Arrows<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let members = members(tree);
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    for member in &members {
        match arrows.iter().find(|(name, _)| *name == member.name) {
            Some((_, allowed)) => {
                found.extend(check_allowed(member, allowed, &names));
                found.extend(check_used(tree, member, allowed));
            }
            None => found.push(Violation {
                file: member.path.clone(),
                line: 1,
                problem: format!("crate {} is not in the table of arrows", member.name),
                fix: "add it to xtask/src/tidy/arrows.rs and docs/architecture.md",
            }),
        }
    }
    for (name, _) in arrows.iter().filter(|(name, _)| !names.contains(name)) {
        found.push(Violation {
            file: TABLE.to_owned(),
            line: table_line(tree, name),
            problem: format!("the table of arrows has {name}, the workspace has not"),
            fix: "remove it from the table",
        });
    }
    found
}

/// Every dependency on a crate of the workspace is in the table.
fn check_allowed(member: &Manifest, allowed: &[&str], ours: &[&str]) -> Vec<Violation> {
    let mut found = Vec::new();
    for dependency in member.dependencies() {
        let name = dependency.name.as_str();
        let for_tests = dependency.dev && FOR_TESTS.contains(&name) && member.name != ALONE;
        if !ours.contains(&name) || allowed.contains(&name) || for_tests {
            continue;
        }
        found.push(Violation {
            file: member.path.clone(),
            line: member.line_of(name),
            problem: format!("{} may not depend on {name}", member.name),
            fix: "drop the dependency, or argue the new arrow in docs/decisions/",
        });
    }
    found
}

/// Every entry of the table is a dependency of more than tests.
fn check_used(tree: &Tree, member: &Manifest, allowed: &[&str]) -> Vec<Violation> {
    let dependencies = member.dependencies();
    let is_used = |name: &str| dependencies.iter().any(|used| used.name == name && !used.dev);
    let unused = allowed.iter().filter(|name| !is_used(name));
    unused
        .map(|name| Violation {
            file: TABLE.to_owned(),
            line: table_line(tree, &member.name),
            problem: format!("{} does not depend on {name}", member.name),
            fix: "remove the arrow from the table and docs/architecture.md",
        })
        .collect()
}

/// The line of this table that starts the entry of a crate.
fn table_line(tree: &Tree, name: &str) -> usize {
    let text = tree.text(TABLE).unwrap_or_default();
    line_where(text, |line| {
        line.trim_start_matches('(').starts_with(&format!("\"{name}\","))
    })
}

/// The table of crates in the architecture page is the same.
fn check_architecture(tree: &Tree, arrows: Arrows<'_>) -> Vec<Violation> {
    let Some(text) = tree.text(ARCHITECTURE) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut report = |line: usize, problem: String| {
        found.push(Violation {
            file: ARCHITECTURE.to_owned(),
            line,
            problem,
            fix: "give the page and xtask/src/tidy/arrows.rs the same arrows",
        });
    };
    let mut seen: Vec<&str> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some((name, cell)) = row(line) else { continue };
        let Some((_, allowed)) = arrows.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        let mut documented: Vec<&str> = if cell == "all of the above" {
            seen.clone()
        } else {
            words(cell)
        };
        let mut allowed = allowed.to_vec();
        documented.sort_unstable();
        allowed.sort_unstable();
        if documented != allowed {
            let (allowed, documented) = (allowed.join(", "), documented.join(", "));
            let problem = format!("{name} may depend on [{allowed}], not on [{documented}]");
            report(index + 1, problem);
        }
        seen.push(name);
    }
    for (name, _) in arrows.iter().filter(|(name, _)| !seen.contains(name)) {
        report(1, format!("the table of crates has no {name}"));
    }
    found
}

/// The crate and its arrows in a row such as ``| `bins/vpn-auth` | ipc | purpose |``.
fn row(line: &str) -> Option<(&str, &str)> {
    let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
    let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    Some((name.strip_prefix("bins/").unwrap_or(name), cells.next()?))
}

fn words(cell: &str) -> Vec<&str> {
    cell.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: [(&str, &[&str]); 3] = [("low", &[]), ("high", &["low"]), ("testkit", &[])];
    const HIGH: &str = "[package]\nname = \"high\"\n[dependencies]\nlow.workspace = true\n";

    /// The violations of a workspace with the given manifest of `high` and `extra` at the end of
    /// that of `low`.
    fn problems(high: &str, extra: &str) -> Vec<String> {
        let low = format!("[package]\nname = \"low\"\n{extra}");
        let tree = Tree::of(&[
            ("crates/low/Cargo.toml", &low),
            ("crates/high/Cargo.toml", high),
            ("crates/testkit/Cargo.toml", "[package]\nname = \"testkit\"\n"),
            (TABLE, "[\n    (\"low\", &[]),\n    (\n        \"high\",\n"),
        ]);
        let found = check_manifests(&tree, &SMALL);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arrows_of_the_table_and_foreign_crates_are_allowed() {
        let found = problems(HIGH, "[dependencies]\nserde.workspace = true\n");
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn an_arrow_missing_from_the_table_is_found_in_every_kind_of_dependency() {
        let tables = [
            "dependencies",
            "build-dependencies",
            "dev-dependencies",
            "target.'cfg(unix)'.dependencies",
            "target.x86_64-unknown-linux-gnu.build-dependencies",
        ];
        for table in tables {
            let found = problems(HIGH, &format!("[{table}]\nhigh.workspace = true\n"));
            assert_eq!(found.len(), 1, "{table}: {found:?}");
            assert!(
                found[0].starts_with("crates/low/Cargo.toml:4: low may not depend on high"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn an_arrow_of_the_table_that_no_manifest_uses_is_found() {
        for unused in [
            HIGH.replace("low.workspace = true\n", ""),
            HIGH.replace("[dependencies]", "[dev-dependencies]"),
        ] {
            let found = problems(&unused, "");
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(
                found[0].starts_with("xtask/src/tidy/arrows.rs:4: high does not depend on low"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn only_tests_may_use_the_testkit() {
        assert!(problems(HIGH, "[dev-dependencies]\ntestkit.workspace = true\n").is_empty());
        assert_eq!(
            problems(HIGH, "[dependencies]\ntestkit.workspace = true\n").len(),
            1
        );
    }

    #[test]
    fn a_renamed_dependency_is_found() {
        let renamed = "[dependencies]\nother = { package = \"high\", path = \"../high\" }\n";
        let found = problems(HIGH, renamed);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("crates/low/Cargo.toml:4:"), "{found:?}");
    }

    #[test]
    fn a_crate_in_the_workspace_or_the_table_only_is_found() {
        let tree = Tree::of(&[("crates/new/Cargo.toml", "[package]\nname = \"new\"\n")]);
        let found = check_manifests(&tree, &[("old", &[])]);
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("crates/new/Cargo.toml:1: crate new is not in the table"),
            "{found:?}"
        );
        assert!(found[1].contains("the table of arrows has old"), "{found:?}");
    }

    #[test]
    fn an_architecture_page_that_differs_from_the_table_is_found() {
        let page = |low: &str, high: &str| format!("| `low` | {low} | |\n| `high` | {high} | |\n");
        let count = |text: &str| check_architecture(&Tree::of(&[(ARCHITECTURE, text)]), &SMALL[..2]).len();
        assert_eq!(count(&page("", "low")), 0);
        assert_eq!(count(&page("", "all of the above")), 0);
        assert_eq!(count(&page("high", "low")), 1);
        assert_eq!(count(&page("", "")), 1);
        assert_eq!(count("| `low` | | |\n"), 1, "no row of high");
    }
}
