//! Manifests: each crate inherits what the workspace decides, and versions stand in the root manifest alone.

use toml::{Table, Value};

use super::{Tree, Violation, line_where};

const ROOT: &str = "Cargo.toml";

/// What every package takes over from the workspace.
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
    /// The short name by which other crates use it, or its package name where none does.
    pub(super) name: String,
    text: String,
    table: Table,
    /// Package name and short name of all our crates.
    ours: Vec<(String, String)>,
}

/// One dependency of a manifest.
pub(super) struct Dependency {
    /// The short name of one of our crates, or the name that the manifest gives it.
    pub(super) name: String,
    /// Whether only tests, examples and benches see it.
    pub(super) dev: bool,
    /// Whether it is taken from the workspace without a source or version of its own.
    inherited: bool,
}

impl Manifest {
    /// All dependencies of all kinds and targets.
    pub(super) fn dependencies(&self) -> Vec<Dependency> {
        let targets = self.table.get("target").and_then(Value::as_table).into_iter();
        let per_target = targets.flat_map(|targets| targets.values().filter_map(Value::as_table));
        let mut found = Vec::new();
        for place in std::iter::once(&self.table).chain(per_target) {
            for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
                let entries = place.get(kind).and_then(Value::as_table).into_iter().flatten();
                found.extend(
                    entries.map(|(key, value)| self.dependency(key, value, kind == "dev-dependencies")),
                );
            }
        }
        found
    }

    fn dependency(&self, key: &str, value: &Value, dev: bool) -> Dependency {
        let package = value.get("package").and_then(Value::as_str).unwrap_or(key);
        let ours = self
            .ours
            .iter()
            .find(|(name, short)| name == package || short == package);
        let workspace = value.get("workspace").and_then(Value::as_bool) == Some(true);
        let own = ["version", "path", "git", "registry"]
            .iter()
            .any(|key| value.get(key).is_some());
        Dependency {
            name: ours.map_or(key, |(_, short)| short).to_owned(),
            dev,
            inherited: workspace && !own,
        }
    }

    /// The line that names a dependency, by its short name or its package.
    pub(super) fn line_of(&self, name: &str) -> usize {
        let package = self
            .ours
            .iter()
            .find(|(_, short)| short == name)
            .map(|(package, _)| package.as_str());
        line_where(&self.text, |line| {
            let key = line.split(['.', ' ', '=']).next();
            key == Some(name) || package.is_some_and(|package| line.contains(&format!("\"{package}\"")))
        })
    }

    fn violation(&self, line: usize, what: String, mend: &'static str) -> Violation {
        Violation {
            file: self.path.clone(),
            line,
            what,
            mend,
        }
    }
}

/// Package name and short name of the crates that the root manifest knows by a path.
fn named_crates(tree: &Tree) -> Vec<(String, String)> {
    let root = tree
        .text(ROOT)
        .and_then(|text| text.parse::<Table>().ok())
        .unwrap_or_default();
    let dependencies = root
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"));
    let entries = dependencies.and_then(Value::as_table).into_iter().flatten();
    let ours = entries.filter(|(_, value)| value.get("path").is_some());
    ours.map(|(key, value)| {
        let package = value.get("package").and_then(Value::as_str).unwrap_or(key);
        (package.to_owned(), key.clone())
    })
    .collect()
}

/// The short names of all crates that others of the workspace can use.
pub(super) fn workspace_crates(tree: &Tree) -> Vec<String> {
    named_crates(tree).into_iter().map(|(_, short)| short).collect()
}

/// The members of the workspace: what stands in `crates/`, `bins/` and `xtask`. A manifest that does not parse is left
/// to cargo.
pub(super) fn members(tree: &Tree) -> Vec<Manifest> {
    let ours = named_crates(tree);
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
        let package = table
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(Value::as_str);
        let package = package.unwrap_or(path);
        let name = ours
            .iter()
            .find(|(known, _)| known == package)
            .map_or(package, |(_, short)| short);
        let name = name.to_owned();
        found.push(Manifest {
            path: path.to_owned(),
            name,
            text: text.to_owned(),
            table,
            ours: ours.clone(),
        });
    }
    found
}

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = root_sources(tree);
    for manifest in members(tree) {
        found.extend(inherits(&manifest));
        for dependency in manifest
            .dependencies()
            .iter()
            .filter(|dependency| !dependency.inherited)
        {
            let what = format!(
                "dependency {} has a version or source of its own",
                dependency.name
            );
            let mend = "put it into [workspace.dependencies] of the root and write `workspace = true` here";
            found.push(manifest.violation(manifest.line_of(&dependency.name), what, mend));
        }
    }
    found
}

fn inherits(manifest: &Manifest) -> Vec<Violation> {
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
            let line = line_where(&manifest.text, |line| {
                line.split(['.', ' ', '=']).next() == Some(key)
            });
            let what = format!("package.{key} is not the workspace's");
            found.push(manifest.violation(line, what, "write `KEY.workspace = true`"));
        }
    }
    if !from_workspace(manifest.table.get("lints")) {
        let line = line_where(&manifest.text, |line| line.starts_with("[lints"));
        let what = "the crate does not take over the workspace's lints".to_owned();
        found.push(manifest.violation(line, what, "write `[lints]` with `workspace = true`"));
    }
    found
}

/// The root's own dependencies come from the registry, with a version, or from this repository.
fn root_sources(tree: &Tree) -> Vec<Violation> {
    let Some(text) = tree.text(ROOT) else {
        return Vec::new();
    };
    let root: Table = match text.parse() {
        Ok(root) => root,
        Err(_) => return Vec::new(),
    };
    let mut found = Vec::new();
    let mut report = |key: &str, what: String, mend| {
        let line = line_where(text, |line| line.split(['.', ' ', '=']).next() == Some(key));
        found.push(Violation {
            file: ROOT.to_owned(),
            line,
            what,
            mend,
        });
    };
    let dependencies = root
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"));
    for (key, value) in dependencies.and_then(Value::as_table).into_iter().flatten() {
        let version = value
            .as_str()
            .or_else(|| value.get("version").and_then(Value::as_str));
        if value.get("git").is_some() {
            report(
                key,
                format!("dependency {key} comes from git"),
                "take a release from crates.io",
            );
        } else if value.get("path").is_none() && version.is_none_or(|version| version.contains('*')) {
            report(
                key,
                format!("dependency {key} has no version"),
                "name the version that is meant",
            );
        }
    }
    for key in ["patch", "replace"]
        .into_iter()
        .filter(|key| root.contains_key(*key))
    {
        report(
            "[patch",
            format!("the root manifest has a [{key}] table"),
            "take a release from crates.io",
        );
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

    fn found(root: &str, member: &str) -> Vec<String> {
        let tree = Tree::of(&[(ROOT, root), ("crates/x/Cargo.toml", member)]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_manifest_that_takes_everything_over_is_fine() {
        assert_eq!(found(ROOT_GOOD, GOOD), Vec::<String>::new());
    }

    #[test]
    fn every_key_that_is_not_taken_over_is_found() {
        for key in INHERITED {
            let said = found(
                ROOT_GOOD,
                &GOOD.replace(&format!("{key}.workspace = true"), &format!("{key} = \"9\"")),
            );
            // `version` is also the end of `rust-version`, which the replacement then breaks, too.
            assert!(
                said.iter()
                    .any(|line| line.contains(&format!("package.{key} is not"))),
                "{key}: {said:?}"
            );
            let said = found(ROOT_GOOD, &GOOD.replace(&format!("\n{key}.workspace = true"), ""));
            assert_eq!(said.len(), 1, "{key}: {said:?}");
        }
    }

    #[test]
    fn missing_lints_are_found() {
        let said = found(ROOT_GOOD, &GOOD.replace("[lints]\nworkspace = true", ""));
        assert_eq!(said.len(), 1, "{said:?}");
        let said = found(
            ROOT_GOOD,
            &GOOD.replace(
                "[lints]\nworkspace = true",
                "[lints.rust]\nunsafe_code = \"warn\"",
            ),
        );
        assert!(said[0].contains("lints"), "{said:?}");
    }

    #[test]
    fn a_version_or_source_outside_the_root_is_found() {
        for entry in [
            "serde = \"1\"",
            "serde = { version = \"1\" }",
            "serde = { path = \"../s\" }",
            "serde = { git = \"u\" }",
        ] {
            let said = found(ROOT_GOOD, &GOOD.replace("serde.workspace = true", entry));
            assert_eq!(said.len(), 1, "{entry}: {said:?}");
            assert!(
                said[0].starts_with("crates/x/Cargo.toml:10: dependency serde has"),
                "{said:?}"
            );
        }
    }

    #[test]
    fn the_root_takes_nothing_but_releases() {
        for entry in [
            "serde = { git = \"u\" }",
            "serde = \"*\"",
            "serde = { features = [] }",
        ] {
            let said = found(&ROOT_GOOD.replace("serde = \"1\"", entry), GOOD);
            assert_eq!(said.len(), 1, "{entry}: {said:?}");
            assert!(said[0].starts_with("Cargo.toml:2:"), "{said:?}");
        }
        let patched = format!("{ROOT_GOOD}[patch.crates-io]\nserde = {{ path = \"s\" }}\n");
        assert_eq!(found(&patched, GOOD).len(), 1);
    }
}
