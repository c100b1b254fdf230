//! Which crate may lean on which, and that the manifests and `docs/architecture.md` agree.

use super::manifests::{Manifest, members, workspace_crates};
use super::{Tree, Violation, line_where};

const ARCHITECTURE: &str = "docs/architecture.md";

/// Every crate of the workspace by its short name, with all that it may lean on. A new arrow is an event: argue it in
/// `docs/decisions/`.
const ARROWS: [(&str, &[&str]); 16] = [
    ("ocserv-agent-model", &[]),
    ("ipc", &[]),
    ("ocserv-agent-proto", &[]),
    ("occtl", &[]),
    ("tls", &[]),
    ("telemetry", &[]),
    ("resilience", &["ocserv-agent-model"]),
    ("policy", &["ocserv-agent-model"]),
    ("authz", &["ocserv-agent-model", "resilience"]),
    ("portal", &["ocserv-agent-model", "ocserv-agent-proto", "tls", "resilience"]),
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
            "authz",
            "portal",
        ],
    ),
    ("testkit", &["ocserv-agent-model", "ipc", "ocserv-agent-proto", "tls", "occtl"]),
    ("vpn-auth", &["ipc"]),
    ("ocserv-agent", &["agent"]),
    ("portal-dev", &["ocserv-agent-proto", "tls", "ocserv-agent-model", "policy"]),
    ("xtask", &[]),
];

/// What tests of any crate may use beside its arrows, except where the crate leans on nothing at all by design.
const FOR_TESTS: [&str; 3] = ["testkit", "ocserv-agent-model", "ipc"];

/// A crate without dependencies of ours even in its tests: it must work when all others are broken.
const ALONE: &str = "xtask";

type Arrows<'a> = &'a [(&'a str, &'a [&'a str])];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = manifests_follow(tree, &ARROWS);
    found.extend(documented(tree, &ARROWS));
    found
}

fn manifests_follow(tree: &Tree, arrows: Arrows<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let ours = workspace_crates(tree);
    let members = members(tree);
    for member in &members {
        match arrows.iter().find(|(name, _)| *name == member.name) {
            Some((_, may)) => found.extend(member_follows(member, may, &ours)),
            None => found.push(Violation {
                file: member.path.clone(),
                line: 1,
                what: format!("crate {} is not in the table of arrows", member.name),
                mend: "add it to xtask/src/tidy/arrows.rs and docs/architecture.md",
            }),
        }
    }
    let names: Vec<&str> = arrows.iter().map(|(name, _)| *name).collect();
    let listed = arrows
        .iter()
        .flat_map(|(_, may)| may.iter())
        .filter(|name| !names.contains(name));
    let gone = names
        .iter()
        .filter(|name| !members.iter().any(|member| member.name == **name));
    for name in listed.chain(gone) {
        found.push(Violation {
            file: "xtask/src/tidy/arrows.rs".to_owned(),
            line: line_where(
                tree.text("xtask/src/tidy/arrows.rs").unwrap_or_default(),
                |line| line.contains(&format!("\"{name}\"")),
            ),
            what: format!("the table of arrows has {name}, the workspace has not"),
            mend: "take it out of the table",
        });
    }
    found
}

fn member_follows(member: &Manifest, may: &[&str], ours: &[String]) -> Vec<Violation> {
    let mut found = Vec::new();
    for dependency in member.dependencies() {
        let name = dependency.name.as_str();
        let for_tests = dependency.dev && FOR_TESTS.contains(&name) && member.name != ALONE;
        if !ours.iter().any(|ours| ours == name) || may.contains(&name) || for_tests {
            continue;
        }
        found.push(Violation {
            file: member.path.clone(),
            line: member.line_of(name),
            what: format!("{} may not lean on {name}", member.name),
            mend: "drop the dependency, or argue the new arrow in docs/decisions/",
        });
    }
    found
}

/// The table of crates in the architecture page says the same.
fn documented(tree: &Tree, arrows: Arrows<'_>) -> Vec<Violation> {
    let Some(text) = tree.text(ARCHITECTURE) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut report = |line: usize, what: String| {
        let mend = "make the page and xtask/src/tidy/arrows.rs say the same";
        found.push(Violation {
            file: ARCHITECTURE.to_owned(),
            line,
            what,
            mend,
        });
    };
    let mut seen: Vec<&str> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some((name, said)) = row(line) else { continue };
        let Some((_, may)) = arrows.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        let mut said: Vec<&str> = if said == "all of the above" {
            seen.clone()
        } else {
            words(said)
        };
        let mut may = may.to_vec();
        said.sort_unstable();
        may.sort_unstable();
        if said != may {
            report(
                index + 1,
                format!(
                    "{name} may lean on [{}], not on [{}]",
                    may.join(", "),
                    said.join(", ")
                ),
            );
        }
        seen.push(name);
    }
    for (name, _) in arrows.iter().filter(|(name, _)| !seen.contains(name)) {
        report(1, format!("the table of crates leaves out {name}"));
    }
    found
}

/// The crate and its arrows in a row such as ``| `bins/vpn-auth` | ipc | what it is |``.
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

    const ROOT: &str = "[workspace.dependencies]\n\
        low = { package = \"x-low\", path = \"crates/low\" }\n\
        high = { package = \"x-high\", path = \"crates/high\" }\n\
        testkit = { package = \"x-testkit\", path = \"crates/testkit\" }\n\
        serde = \"1\"\n";
    const TABLE: [(&str, &[&str]); 3] = [("low", &[]), ("high", &["low"]), ("testkit", &["low"])];

    /// What is wrong with a workspace where `low` has `extra` at the end of its manifest.
    fn found(extra: &str) -> Vec<String> {
        let low = format!("[package]\nname = \"x-low\"\n{extra}");
        let tree = Tree::of(&[
            ("Cargo.toml", ROOT),
            ("crates/low/Cargo.toml", &low),
            (
                "crates/high/Cargo.toml",
                "[package]\nname = \"x-high\"\n[dependencies]\nlow.workspace = true\n",
            ),
            ("crates/testkit/Cargo.toml", "[package]\nname = \"x-testkit\"\n"),
        ]);
        manifests_follow(&tree, &TABLE)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn arrows_of_the_table_and_foreign_crates_are_fine() {
        assert_eq!(
            found("[dependencies]\nserde.workspace = true\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn an_arrow_that_is_not_in_the_table_is_found_in_every_kind_of_dependency() {
        let tables = [
            "dependencies",
            "build-dependencies",
            "dev-dependencies",
            "target.'cfg(unix)'.dependencies",
            "target.x86_64-unknown-linux-gnu.build-dependencies",
        ];
        for table in tables {
            let said = found(&format!("[{table}]\nhigh.workspace = true\n"));
            assert_eq!(said.len(), 1, "{table}: {said:?}");
            assert!(
                said[0].starts_with("crates/low/Cargo.toml:4: low may not lean on high"),
                "{said:?}"
            );
        }
    }

    #[test]
    fn only_tests_may_use_the_testkit() {
        assert!(found("[dev-dependencies]\ntestkit.workspace = true\n").is_empty());
        assert_eq!(found("[dependencies]\ntestkit.workspace = true\n").len(), 1);
    }

    #[test]
    fn a_renamed_dependency_is_still_found() {
        let said = found("[dependencies]\nother = { package = \"x-high\", path = \"../high\" }\n");
        assert_eq!(said.len(), 1, "{said:?}");
    }

    #[test]
    fn a_crate_that_the_table_does_not_know_is_found_and_the_reverse() {
        let tree = Tree::of(&[
            ("Cargo.toml", ROOT),
            ("crates/new/Cargo.toml", "[package]\nname = \"x-new\"\n"),
        ]);
        let said: Vec<_> = manifests_follow(&tree, &[("old", &["older"])])
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(
            said[0].starts_with("crates/new/Cargo.toml:1: crate x-new is not in the table"),
            "{said:?}"
        );
    }

    #[test]
    fn the_page_must_say_the_same_as_the_table() {
        let page = |low: &str, high: &str| format!("| `low` | {low} | |\n| `high` | {high} | |\n");
        let said = |text: &str| documented(&Tree::of(&[(ARCHITECTURE, text)]), &TABLE[..2]).len();
        assert_eq!(said(&page("", "low")), 0);
        assert_eq!(said(&page("", "all of the above")), 0);
        assert_eq!(said(&page("high", "low")), 1);
        assert_eq!(said(&page("", "")), 1);
        assert_eq!(said("| `low` | | |\n"), 1, "a crate is left out");
    }
}
