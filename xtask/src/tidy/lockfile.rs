//! `Cargo.lock`: releases from crates.io only, and one version of the large crates.

use toml::{Table, Value};

use super::tree::Tree;
use super::violation::{Violation, line_where};

const LOCK: &str = "Cargo.lock";

/// The source of every package that is not of this repository.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates whose types are in our APIs or that are slow to build: one version each.
const SINGLE: [&str; 18] = [
    "aws-lc-rs",
    "aws-lc-sys",
    "axum",
    "bytes",
    "clap",
    "h2",
    "http",
    "http-body",
    "hyper",
    "prost",
    "prost-types",
    "rustls",
    "rustls-webpki",
    "serde",
    "tokio",
    "tokio-rustls",
    "tonic",
    "x509-parser",
];

/// A package of the lock file.
struct Package<'a> {
    name: &'a str,
    version: &'a str,
    source: Option<&'a str>,
}

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let Some(text) = tree.text(LOCK) else {
        return vec![violation(
            "",
            "",
            "Cargo.lock is not in the repository".to_owned(),
            "commit it",
        )];
    };
    let lock: Table = match text.parse() {
        Ok(lock) => lock,
        Err(_) => {
            return vec![violation(
                text,
                "",
                "not TOML".to_owned(),
                "regenerate it with cargo",
            )];
        }
    };
    let packages = packages(&lock);
    let mut found = Vec::new();
    for package in &packages {
        if package.source.is_some_and(|source| source != REGISTRY) {
            let problem = format!(
                "{} comes from {}",
                package.name,
                package.source.unwrap_or_default()
            );
            found.push(violation(
                text,
                package.name,
                problem,
                "use a release from crates.io",
            ));
        }
    }
    for name in SINGLE {
        let versions: Vec<&str> = packages
            .iter()
            .filter(|p| p.name == name)
            .map(|p| p.version)
            .collect();
        if versions.len() > 1 {
            let problem = format!("{name} has versions {}", versions.join(" and "));
            found.push(violation(
                text,
                name,
                problem,
                "upgrade its dependents to one version",
            ));
        }
    }
    found
}

fn packages(lock: &Table) -> Vec<Package<'_>> {
    let entries = lock.get("package").and_then(Value::as_array);
    entries.into_iter().flatten().map(package).collect()
}

fn package(entry: &Value) -> Package<'_> {
    Package {
        name: field(entry, "name").unwrap_or_default(),
        version: field(entry, "version").unwrap_or_default(),
        source: field(entry, "source"),
    }
}

fn field<'a>(entry: &'a Value, key: &str) -> Option<&'a str> {
    entry.get(key).and_then(Value::as_str)
}

fn violation(text: &str, package: &str, problem: String, fix: &'static str) -> Violation {
    let line = line_where(text, |line| line == format!("name = \"{package}\""));
    Violation {
        file: LOCK.to_owned(),
        line,
        problem,
        fix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The violations of a lock file with these packages: name, version, source.
    fn problems(packages: &[(&str, &str, &str)]) -> Vec<String> {
        let entry = |(name, version, source): &(&str, &str, &str)| {
            let source = if source.is_empty() {
                String::new()
            } else {
                format!("source = \"{source}\"\n")
            };
            format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{source}")
        };
        let text: String = packages.iter().map(entry).collect();
        check(&Tree::of(&[(LOCK, &text)]))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn releases_and_our_own_crates_are_allowed() {
        let found = problems(&[
            ("x-ipc", "0.1.0", ""),
            ("hashbrown", "0.1.0", REGISTRY),
            ("hashbrown", "0.2.0", REGISTRY),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn a_missing_lock_file_is_found() {
        assert_eq!(check(&Tree::of(&[])).len(), 1);
    }

    #[test]
    fn any_other_source_is_found() {
        for source in [
            "git+https://github.com/a/b#123",
            "registry+https://mirror.example/index",
        ] {
            let found = problems(&[("a", "1.0.0", source)]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with("Cargo.lock:2: a comes from"), "{found:?}");
        }
    }

    #[test]
    fn a_large_crate_in_two_versions_is_found() {
        for name in SINGLE {
            let found = problems(&[(name, "1.0.0", REGISTRY), (name, "2.0.0", REGISTRY)]);
            assert_eq!(found.len(), 1, "{found:?}");
        }
    }
}
