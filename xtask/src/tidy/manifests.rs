//! Manifests: crates inherit from the workspace, versions are in the root manifest alone, and a
//! crate has one name.

use toml::{Table, Value};

use super::tree::Tree;
use super::violation::{Violation, line_where};

const ROOT: &str = "Cargo.toml";

/// The keys of `[package]` that every crate inherits.
const INHERITED: [&str; 6] = [
    "version",
    "edition",
    "rust-version",
    "license",
    "repository",
    "publish",
];

/// The manifest of one member of the workspace.
pub(super) struct Manifest {
    /// Its path from the root.
    pub(super) path: String,
    /// The package's name.
    pub(super) name: String,
    text: String,
    table: Table,
}

/// One dependency of a manifest.
pub(super) struct Dependency {
    /// The package's name.
    pub(super) name: String,
    /// Whether only tests, examples and benches see it.
    pub(super) dev: bool,
    /// Whether version and source come from the workspace.
    inherited: bool,
}

impl Manifest {
    /// All dependencies of all kinds and targets.
    pub(super) fn dependencies(&self) -> Vec<Dependency> {
        let targets = self.table.get("target").and_then(Value::as_table).into_iter();
        let per_target = targets.flat_map(|targets| targets.values().filter_map(Value::as_table));
        let mut found = Vec::new();
        for table in std::iter::once(&self.table).chain(per_target) {
            for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
                let entries = table.get(kind).and_then(Value::as_table).into_iter().flatten();
                found.extend(entries.map(|(key, value)| dependency(key, value, kind == "dev-dependencies")));
            }
        }
        found
    }

    /// The line that declares a dependency, or that names its package.
    pub(super) fn line_of(&self, name: &str) -> usize {
        line_where(&self.text, |line| {
            key_of(line) == name || line.contains(&format!("package = \"{name}\""))
        })
    }

    fn violation(&self, line: usize, problem: String, fix: &'static str) -> Violation {
        Violation {
            file: self.path.clone(),
            line,
            problem,
            fix,
        }
    }
}

fn dependency(key: &str, value: &Value, dev: bool) -> Dependency {
    let package = value.get("package").and_then(Value::as_str).unwrap_or(key);
    let workspace = value.get("workspace").and_then(Value::as_bool) == Some(true);
    let own = ["version", "path", "git", "registry"]
        .iter()
        .any(|key| value.get(key).is_some());
    Dependency {
        name: package.to_owned(),
        dev,
        inherited: workspace && !own,
    }
}

/// The first key of a line of TOML.
fn key_of(line: &str) -> &str {
    line.split(['.', ' ', '=']).next().unwrap_or(line)
}

/// The members of the workspace: the packages in `crates/`, `bins/` and `xtask`. A manifest that
/// does not parse is left to cargo.
pub(super) fn members(tree: &Tree) -> Vec<Manifest> {
    let mut found = Vec::new();
    for (path, text) in tree.iter() {
        let parts: Vec<&str> = path.split('/').collect();
        if !matches!(
            parts[..],
            ["crates" | "bins", _, "Cargo.toml"] | ["xtask", "Cargo.toml"]
        ) {
            continue;
        }
        let Ok(table) = text.parse::<Table>() else {
            continue;
        };
        let package = table.get("package").and_then(|package| package.get("name"));
        found.push(Manifest {
            path: path.to_owned(),
            name: package.and_then(Value::as_str).unwrap_or(path).to_owned(),
            text: text.to_owned(),
            table,
        });
    }
    found
}

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = tree.text(ROOT).map_or_else(Vec::new, check_root);
    for manifest in members(tree) {
        found.extend(check_name(&manifest));
        found.extend(check_inherited(&manifest));
        for dependency in manifest
            .dependencies()
            .iter()
            .filter(|dependency| !dependency.inherited)
        {
            let problem = format!(
                "dependency {} has a version or source of its own",
                dependency.name
            );
            let fix = "move it to [workspace.dependencies] of the root and write `workspace = true` here";
            found.push(manifest.violation(manifest.line_of(&dependency.name), problem, fix));
        }
    }
    found
}

/// Directory, package and library have one name.
fn check_name(manifest: &Manifest) -> Vec<Violation> {
    let mut found = Vec::new();
    let dir = manifest.path.rsplit('/').nth(1).unwrap_or_default();
    if manifest.name != dir {
        let line = line_where(&manifest.text, |line| key_of(line) == "name");
        let problem = format!("package {} is in directory {dir}", manifest.name);
        found.push(manifest.violation(line, problem, "give both the same name"));
    }
    if manifest
        .table
        .get("lib")
        .is_some_and(|lib| lib.get("name").is_some())
    {
        let line = line_where(&manifest.text, |line| line == "[lib]");
        let problem = format!("package {} renames its library", manifest.name);
        found.push(manifest.violation(line, problem, "drop `name` from [lib]"));
    }
    found
}

fn check_inherited(manifest: &Manifest) -> Vec<Violation> {
    let from_workspace = |value: Option<&Value>| {
        value
            .and_then(|value| value.get("workspace"))
            .and_then(Value::as_bool)
            == Some(true)
    };
    let mut found = Vec::new();
    let package = manifest.table.get("package");
    for key in INHERITED {
        if !from_workspace(package.and_then(|package| package.get(key))) {
            let line = line_where(&manifest.text, |line| key_of(line) == key);
            let problem = format!("package.{key} is not inherited");
            found.push(manifest.violation(line, problem, "write `KEY.workspace = true`"));
        }
    }
    if !from_workspace(manifest.table.get("lints")) {
        let line = line_where(&manifest.text, |line| line.starts_with("[lints"));
        let problem = "the crate does not inherit the workspace's lints".to_owned();
        found.push(manifest.violation(line, problem, "write `[lints]` with `workspace = true`"));
    }
    found
}

/// Dependencies of the workspace are releases from the registry, or crates of this repository under
/// their own names.
fn check_root(text: &str) -> Vec<Violation> {
    let Ok(root) = text.parse::<Table>() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut report = |key: &str, problem: String, fix| {
        let file = ROOT.to_owned();
        let line = line_where(text, |line| key_of(line) == key);
        found.push(Violation {
            file,
            line,
            problem,
            fix,
        });
    };
    let dependencies = root
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"));
    for (key, value) in dependencies.and_then(Value::as_table).into_iter().flatten() {
        let field = |name| value.get(name).and_then(Value::as_str);
        let version = value.as_str().or_else(|| field("version"));
        if field("git").is_some() {
            let problem = format!("dependency {key} comes from git");
            report(key, problem, "use a release from crates.io");
        } else if let Some(path) = field("path") {
            let dir = path.rsplit('/').next().unwrap_or(path);
            if dir != key || field("package").is_some() {
                let problem = format!("dependency {key} renames {}", field("package").unwrap_or(dir));
                report(key, problem, "name it as its package and directory");
            }
        } else if version.is_none_or(|version| version.contains('*')) {
            let problem = format!("dependency {key} has no version");
            report(key, problem, "give the required version");
        }
    }
    for key in ["patch", "replace"]
        .into_iter()
        .filter(|key| root.contains_key(*key))
    {
        let problem = format!("the root manifest has a [{key}] table");
        report("[patch", problem, "use a release from crates.io");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT_GOOD: &str = "[workspace.dependencies]\nserde = \"1\"\nlow = { path = \"crates/low\" }\n";
    const GOOD: &str = "[package]\nname = \"x\"\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\nrepository.workspace = true\n\
        publish.workspace = true\n[dependencies]\nserde.workspace = true\n[lints]\nworkspace = true\n";

    fn problems(root: &str, member: &str) -> Vec<String> {
        let tree = Tree::of(&[(ROOT, root), ("crates/x/Cargo.toml", member)]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_manifest_that_inherits_everything_is_allowed() {
        assert_eq!(problems(ROOT_GOOD, GOOD), Vec::<String>::new());
    }

    #[test]
    fn every_key_that_is_not_inherited_is_found() {
        for key in INHERITED {
            let found = problems(
                ROOT_GOOD,
                &GOOD.replace(&format!("{key}.workspace = true"), &format!("{key} = \"9\"")),
            );
            // `version` is also the end of `rust-version`, which the replacement then breaks, too.
            assert!(
                found
                    .iter()
                    .any(|line| line.contains(&format!("package.{key} is not"))),
                "{key}: {found:?}"
            );
            let found = problems(ROOT_GOOD, &GOOD.replace(&format!("\n{key}.workspace = true"), ""));
            assert_eq!(found.len(), 1, "{key}: {found:?}");
        }
    }

    #[test]
    fn missing_lints_are_found() {
        let found = problems(ROOT_GOOD, &GOOD.replace("[lints]\nworkspace = true", ""));
        assert_eq!(found.len(), 1, "{found:?}");
        let found = problems(
            ROOT_GOOD,
            &GOOD.replace(
                "[lints]\nworkspace = true",
                "[lints.rust]\nunsafe_code = \"warn\"",
            ),
        );
        assert!(found[0].contains("lints"), "{found:?}");
    }

    #[test]
    fn a_version_or_source_outside_the_root_is_found() {
        for entry in [
            "serde = \"1\"",
            "serde = { version = \"1\" }",
            "serde = { path = \"../s\" }",
            "serde = { git = \"u\" }",
        ] {
            let found = problems(ROOT_GOOD, &GOOD.replace("serde.workspace = true", entry));
            assert_eq!(found.len(), 1, "{entry}: {found:?}");
            assert!(
                found[0].starts_with("crates/x/Cargo.toml:10: dependency serde has"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn only_releases_are_allowed_in_the_root() {
        for entry in [
            "serde = { git = \"u\" }",
            "serde = \"*\"",
            "serde = { features = [] }",
        ] {
            let found = problems(&ROOT_GOOD.replace("serde = \"1\"", entry), GOOD);
            assert_eq!(found.len(), 1, "{entry}: {found:?}");
            assert!(found[0].starts_with("Cargo.toml:2:"), "{found:?}");
        }
        let patched = format!("{ROOT_GOOD}[patch.crates-io]\nserde = {{ path = \"s\" }}\n");
        assert_eq!(problems(&patched, GOOD).len(), 1);
    }

    #[test]
    fn a_package_named_differently_from_its_directory_is_found() {
        let found = problems(ROOT_GOOD, &GOOD.replace("\"x\"", "\"our-x\""));
        assert_eq!(
            found,
            ["crates/x/Cargo.toml:2: package our-x is in directory x; give both the same name"]
        );
    }

    #[test]
    fn a_renamed_library_is_found() {
        assert!(problems(ROOT_GOOD, &format!("{GOOD}[lib]\nbench = false\n")).is_empty());
        let found = problems(ROOT_GOOD, &format!("{GOOD}[lib]\nname = \"y\"\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("crates/x/Cargo.toml:13:"), "{found:?}");
    }

    #[test]
    fn a_crate_of_ours_under_another_name_is_found() {
        for entry in [
            "low = { package = \"our-low\", path = \"crates/low\" }",
            "low = { path = \"crates/lower\" }",
        ] {
            let found = problems(&ROOT_GOOD.replace("low = { path = \"crates/low\" }", entry), GOOD);
            assert_eq!(found.len(), 1, "{entry}: {found:?}");
            assert!(
                found[0].starts_with("Cargo.toml:3: dependency low renames"),
                "{found:?}"
            );
        }
    }
}
