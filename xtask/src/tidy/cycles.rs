//! No file of a crate imports, directly or through others, a file that imports it.
//!
//! A re-export counts as an import, `mod child;` does not. Code that only tests compile is ignored:
//! a test module imports its parent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::modules::{Edge, Graph, import_graph};
use super::tree::Tree;
use super::violation::Violation;

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut crates: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (file, _) in tree.iter() {
        if let Some(dir) = crate_of_root(file) {
            crates.entry(dir).or_default().push(file);
        }
    }
    crates
        .values()
        .flat_map(|roots| cycles(&import_graph(tree, roots)))
        .collect()
}

/// The crate's directory when `file` is the root of one of its targets.
fn crate_of_root(file: &str) -> Option<&str> {
    let (at, in_crate) = match file.split('/').collect::<Vec<_>>()[..] {
        ["crates" | "bins", _, ..] => (2, file.splitn(3, '/').nth(2)?),
        ["xtask", ..] => (1, file.split_once('/')?.1),
        _ => return None,
    };
    let is_root = match in_crate.split('/').collect::<Vec<_>>()[..] {
        ["src", "lib.rs" | "main.rs"] => true,
        ["src", "bin", name] | ["tests" | "benches" | "examples", name] => name.ends_with(".rs"),
        ["src", "bin", _, "main.rs"] | ["tests" | "benches" | "examples", _, "main.rs"] => true,
        _ => false,
    };
    let end = file.match_indices('/').nth(at - 1)?.0;
    is_root.then(|| &file[..end])
}

/// The shortest cycle through each import, every cycle once.
fn cycles(graph: &Graph) -> Vec<Violation> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for edge in graph.values().flat_map(BTreeMap::values) {
        let Some(cycle) = shortest_path(graph, &edge.to, &edge.from) else {
            continue;
        };
        let mut files: Vec<&str> = cycle.iter().map(|edge| edge.to.as_str()).collect();
        files.push(&edge.to);
        files.sort_unstable();
        if seen.insert(files) {
            found.push(violation(edge, &cycle));
        }
    }
    found
}

/// The fewest imports that lead from one file to another.
fn shortest_path<'a>(graph: &'a Graph, from: &'a str, to: &str) -> Option<Vec<&'a Edge>> {
    let mut reached: BTreeMap<&str, &Edge> = BTreeMap::new();
    let mut pending = VecDeque::from([from]);
    while let Some(file) = pending.pop_front() {
        if file == to {
            let mut path = Vec::new();
            let mut at = file;
            while at != from {
                let edge = reached.get(at)?;
                path.push(*edge);
                at = &edge.from;
            }
            path.reverse();
            return Some(path);
        }
        for edge in graph.get(file).into_iter().flat_map(BTreeMap::values) {
            if edge.to != from && !reached.contains_key(edge.to.as_str()) {
                reached.insert(&edge.to, edge);
                pending.push_back(&edge.to);
            }
        }
    }
    None
}

fn violation(first: &Edge, rest: &[&Edge]) -> Violation {
    let mut problem = format!("import cycle: {}", first.from);
    for edge in std::iter::once(&first).chain(rest) {
        problem += &format!(" -> {} ({}, line {})", edge.to, edge.path, edge.line);
    }
    Violation {
        file: first.from.clone(),
        line: first.line,
        problem,
        fix: "move what both sides need to a file that both import, or pass it as a parameter",
    }
}

#[cfg(test)]
mod tests {
    use super::super::generated;
    use super::*;

    /// The import cycles of a crate with the given files in `src`, each as its files and paths.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files
            .iter()
            .map(|(file, text)| (format!("crates/x/src/{file}"), *text))
            .collect();
        let files: Vec<_> = files.iter().map(|(file, text)| (file.as_str(), *text)).collect();
        let prefix = "import cycle: ";
        check(&Tree::of(&files))
            .iter()
            .map(|violation| violation.problem.replace("crates/x/src/", "").replace(prefix, ""))
            .collect()
    }

    fn assert_none(files: &[(&str, &str)]) {
        assert_eq!(found(files), Vec::<String>::new(), "{files:?}");
    }

    #[test]
    fn imports_in_one_direction_are_allowed() {
        assert_none(&[
            ("lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::B;\n"),
            ("a.rs", "use crate::b::B;\npub struct A(B);\n"),
            ("b.rs", "pub struct B;\n"),
        ]);
    }

    #[test]
    fn a_cycle_of_two_is_found_with_its_files_and_lines() {
        let tree = Tree::of(&[
            ("crates/x/src/lib.rs", "mod a;\nmod b;\n"),
            ("crates/x/src/a.rs", "\nuse crate::b::B;\npub struct A(B);\n"),
            ("crates/x/src/b.rs", "pub struct B;\nfn f(_: super::a::A) {}\n"),
        ]);
        let lines: Vec<_> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["crates/x/src/a.rs:2: import cycle: crates/x/src/a.rs \
                -> crates/x/src/b.rs (crate::b::B, line 2) \
                -> crates/x/src/a.rs (super::a::A, line 2); \
                move what both sides need to a file that both import, or pass it as a parameter"]
        );
    }

    #[test]
    fn a_cycle_of_three_is_found_once() {
        let found = found(&[
            ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("a.rs", "use crate::b::B;\npub struct A(B);\n"),
            ("b.rs", "use super::c::{self};\npub struct B(c::C);\n"),
            ("c.rs", "pub struct C;\nfn f() { let _ = crate::a::A::new(); }\n"),
        ]);
        assert_eq!(
            found,
            ["a.rs -> b.rs (crate::b::B, line 1) -> c.rs (c::C, line 2) -> a.rs (crate::a::A::new, line 2)"]
        );
    }

    #[test]
    fn a_parent_that_uses_a_child_that_imports_from_it_is_a_cycle() {
        let child = "use super::Y;\npub struct X(Y);\n";
        for parent in [
            "mod b;\npub use b::X;\npub struct Y;\n",
            "mod b;\npub struct Y;\nfn f() { b::g(); }\n",
            "mod b;\npub struct Y;\nfn f() { println!(\"{}\", b::g()); }\n",
            "mod b;\nuse self::b::*;\npub struct Y;\n",
        ] {
            let files = [("lib.rs", "mod a;\n"), ("a.rs", parent), ("a/b.rs", child)];
            assert_eq!(found(&files).len(), 1, "{parent}");
        }
        assert_none(&[
            ("lib.rs", "mod a;\n"),
            ("a.rs", "mod b;\npub struct Y;\n"),
            ("a/b.rs", child),
        ]);
    }

    #[test]
    fn a_glob_import_of_the_parent_counts() {
        let files = [
            ("lib.rs", "mod a;\npub use a::A;\n"),
            ("a.rs", "use super::*;\npub struct A;\n"),
        ];
        assert_eq!(found(&files).len(), 1);
    }

    #[test]
    fn a_re_export_leads_to_the_file_that_defines_the_item() {
        assert_none(&[
            (
                "lib.rs",
                "mod a;\nmod b;\nmod c;\npub use a::A;\npub use b::*;\npub use c::C as D;\n",
            ),
            ("a.rs", "use crate::{B, D};\npub struct A(B, D);\n"),
            ("b.rs", "pub struct B;\n"),
            ("c.rs", "pub struct C;\n"),
        ]);
        let files = [
            ("lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::B;\n"),
            ("a.rs", "use crate::B;\npub struct A(B);\n"),
            ("b.rs", "use crate::A;\npub struct B;\n"),
        ];
        assert_eq!(
            found(&files),
            ["a.rs -> b.rs (crate::B, line 1) -> a.rs (crate::A, line 1)"]
        );
    }

    #[test]
    fn a_re_export_of_another_crate_leads_to_the_file_with_the_re_export() {
        let files = [
            ("lib.rs", "mod a;\npub use a::A;\npub use other::Thing;\n"),
            ("a.rs", "use crate::Thing;\npub struct A(Thing);\n"),
        ];
        assert_eq!(found(&files).len(), 1);
    }

    #[test]
    fn code_for_tests_is_ignored() {
        assert_none(&[
            (
                "lib.rs",
                "pub mod a;\nfn f() { a::g(); }\nfn h() {}\n#[cfg(test)]\nmod tests;\n",
            ),
            (
                "a.rs",
                "pub fn g() {}\n#[cfg(test)]\nmod tests { use crate::h; }\n\
                #[cfg(all(test, unix))]\nuse crate::h;\n\
                struct S;\nimpl S { #[cfg(test)] fn i() { crate::h(); } }\n",
            ),
            ("tests.rs", "use super::*;\n"),
        ]);
    }

    #[test]
    fn attributes_and_visibilities_are_no_imports() {
        assert_none(&[
            ("lib.rs", "pub mod a;\npub use a::b::B;\n"),
            (
                "a.rs",
                "pub mod b;\n/// [`super::Y`]\npub(in crate::a) struct A;\n",
            ),
            ("a/b.rs", "pub(super) struct B;\n"),
        ]);
    }

    #[test]
    fn modules_with_a_path_in_directories_and_inline_are_read() {
        let import = "use crate::f;\npub struct A;\n";
        for (root, file) in [
            (
                "#[path = \"other/a.rs\"]\nmod a;\nuse a::A;\nfn f() {}\n",
                "other/a.rs",
            ),
            ("mod a;\nuse a::A;\nfn f() {}\n", "a/mod.rs"),
            ("mod i { pub mod a; }\nuse i::a::A;\nfn f() {}\n", "i/a.rs"),
        ] {
            assert_eq!(found(&[("lib.rs", root), (file, import)]).len(), 1, "{root}");
        }
        assert_none(&[(
            "lib.rs",
            "mod a { use super::F; pub struct A; }\nuse a::A;\nstruct F;\n",
        )]);
    }

    #[test]
    fn every_target_of_every_crate_is_read() {
        for root in [
            "crates/x/src/main.rs",
            "crates/x/src/bin/y.rs",
            "crates/x/tests/y.rs",
            "crates/x/tests/y/main.rs",
            "bins/x/benches/y.rs",
            "xtask/src/lib.rs",
        ] {
            let child = format!("{}/a.rs", root.rsplit_once('/').unwrap().0);
            let tree = Tree::of(&[
                (root, "mod a;\nfn f() { a::g(); }\nfn h() {}\n"),
                (&child, "pub fn g() { super::h(); }\n"),
            ]);
            assert_eq!(check(&tree).len(), 1, "{root}");
        }
    }

    #[test]
    fn generated_code_is_ignored() {
        let lib = "pub mod generated { pub mod a; }\nuse generated::a::A;\npub struct B;\n";
        let a = format!("{}/a.rs", generated::DIR);
        let tree = Tree::of(&[
            ("crates/ocserv-agent-proto/src/lib.rs", lib),
            (&a, "use crate::B;\npub struct A(B);\n"),
        ]);
        assert_eq!(check(&tree), []);
    }
}
