//! The layers inside `crates/agent/src`: a file imports from lower layers only.

use super::modules::{Edge, import_graph};
use super::tree::Tree;
use super::violation::Violation;

const DIR: &str = "crates/agent/src/";

/// The directories and files of each layer, from the top down. Those of one layer do not import
/// each other.
const LAYERS: [&[&str]; 7] = [
    &["app"],
    &["ipc", "grpc", "control_stream", "admin"],
    &["jobs"],
    &["operations"],
    &["metrics"],
    &["config"],
    &["clock", "live", "retrying_listener"],
];

/// The only layer that reads the configuration; it passes settings to the others.
const COMPOSITION: &str = "app";
const CONFIG: &str = "config";

/// The root, which lists modules and re-exports.
const ROOT: &str = "lib";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let root = format!("{DIR}{ROOT}.rs");
    let mut found = Vec::new();
    for (file, imported) in import_graph(tree, &[&root]) {
        let Some(part) = part_of(&file).filter(|part| *part != ROOT) else {
            continue;
        };
        let Some(layer) = layer_of(part) else {
            found.push(unknown(&file));
            continue;
        };
        found.extend(
            imported
                .values()
                .filter_map(|edge| check_import(part, layer, edge)),
        );
    }
    found
}

fn check_import(part: &str, layer: usize, edge: &Edge) -> Option<Violation> {
    let to = part_of(&edge.to).filter(|to| *to != part)?;
    let problem = if to == CONFIG && part != COMPOSITION {
        format!("{part} reads the configuration ({})", edge.path)
    } else if layer_of(to).is_some_and(|below| below <= layer) {
        format!("{part} imports from {to} ({}), which is not below it", edge.path)
    } else {
        return None;
    };
    Some(Violation {
        file: edge.from.clone(),
        line: edge.line,
        problem,
        fix: "take it as a parameter, or move it to a lower layer (xtask/src/tidy/layers.rs)",
    })
}

/// The directory or file directly in [`DIR`] that holds a file.
fn part_of(file: &str) -> Option<&str> {
    let part = file.strip_prefix(DIR)?.split('/').next()?;
    Some(part.strip_suffix(".rs").unwrap_or(part))
}

/// The number of a part's layer, from the top.
fn layer_of(part: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&part))
}

fn unknown(file: &str) -> Violation {
    Violation {
        file: file.to_owned(),
        line: 1,
        problem: "the file is in no layer of the agent".to_owned(),
        fix: "move it to a layer's directory (xtask/src/tidy/layers.rs)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The violations when `from` imports an item that `to` defines.
    fn problems(from: &str, to: &str) -> Vec<String> {
        let import = format!("use crate::{}::X;\n", to.replace('/', "::"));
        let parent = |part: &str| part.split('/').next().unwrap().to_owned();
        let lib = format!("mod {};\nmod {};\n", parent(from), parent(to));
        let path = |part: &str| format!("{DIR}{part}.rs");
        let module = |part: &str| {
            part.split_once('/')
                .map_or(String::new(), |(_, child)| format!("mod {child};\n"))
        };
        let tree = Tree::of(&[
            (&path("lib"), &lib),
            (&path(&parent(from)), &module(from)),
            (&path(&parent(to)), &module(to)),
            (&path(from), &import),
            (&path(to), "pub struct X;\n"),
        ]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn imports_from_lower_layers_are_allowed() {
        for (from, to) in [
            ("app/build", "config/load"),
            ("app/build", "grpc/server"),
            ("ipc/listener", "operations/authorize_login"),
            ("grpc/server", "jobs/deliver_events"),
            ("jobs/deliver_events", "metrics/outbox"),
            ("operations/record_session", "clock"),
            ("config/load", "clock"),
        ] {
            assert_eq!(problems(from, to), Vec::<String>::new(), "{from} -> {to}");
        }
    }

    #[test]
    fn imports_from_the_same_or_a_higher_layer_are_found() {
        for (from, to) in [
            ("ipc/listener", "app/build"),
            ("ipc/listener", "grpc/server"),
            ("admin/status", "control_stream/commands"),
            ("operations/record_session", "jobs/deliver_events"),
            ("metrics/outbox", "operations/record_session"),
            ("clock", "metrics/outbox"),
        ] {
            let found = problems(from, to);
            assert_eq!(found.len(), 1, "{from} -> {to}");
            assert!(found[0].contains("which is not below it"), "{found:?}");
        }
    }

    #[test]
    fn only_the_composition_reads_the_configuration() {
        for from in [
            "ipc/listener",
            "jobs/deliver_events",
            "operations/record_session",
            "metrics/outbox",
        ] {
            let found = problems(from, "config/load");
            assert_eq!(found.len(), 1, "{from}");
            assert!(
                found[0].contains("reads the configuration (crate::config::load::X)"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_file_outside_the_layers_is_found() {
        let found = problems("pipeline", "clock");
        assert_eq!(
            found,
            [
                "crates/agent/src/pipeline.rs:1: the file is in no layer of the agent; \
                move it to a layer's directory (xtask/src/tidy/layers.rs)"
            ]
        );
    }

    #[test]
    fn the_root_may_re_export_from_every_layer() {
        let tree = Tree::of(&[
            ("crates/agent/src/lib.rs", "mod app;\npub use app::run;\n"),
            ("crates/agent/src/app.rs", "pub fn run() {}\n"),
        ]);
        assert_eq!(check(&tree), []);
    }
}
