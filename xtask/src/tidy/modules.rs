//! The module trees of compilation targets, and which of their files import which.

use std::collections::BTreeMap;

use syn::{Expr, ExprLit, Item, ItemMod, Lit, Meta};

use super::generated;
use super::paths::{Paths, attributes, defined_name, is_test_only};
use super::tree::Tree;

/// The longest chain of re-exports that is followed.
const MAX_HOPS: usize = 16;

/// A module, in a file of its own or inline.
struct Module {
    file: String,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    defined: Vec<String>,
    paths: Paths,
}

/// What a path names, by the index of a module.
#[derive(Clone, Copy)]
enum Named {
    Module(usize),
    /// An item that this module defines.
    Item(usize),
}

/// Code in one file that uses an item of another file.
pub(super) struct Edge {
    pub(super) from: String,
    pub(super) to: String,
    /// The path as written.
    pub(super) path: String,
    /// The line of `from`, from 1.
    pub(super) line: usize,
}

/// The imports between files: importer, imported file, first use. Every file is a key.
pub(super) type Graph = BTreeMap<String, BTreeMap<String, Edge>>;

/// Finds the imports between the files of the targets with the given roots, without generated code.
pub(super) fn import_graph(tree: &Tree, roots: &[&str]) -> Graph {
    let mut graph = Graph::new();
    for root in roots {
        let modules = Modules::read(tree, root);
        for module in &modules.all {
            graph.entry(module.file.clone()).or_default();
        }
        for edge in modules
            .edges()
            .into_iter()
            .filter(|edge| !edge.to.starts_with(generated::DIR))
        {
            let imported = graph.entry(edge.from.clone()).or_default();
            imported.entry(edge.to.clone()).or_insert(edge);
        }
    }
    graph.retain(|file, _| !file.starts_with(generated::DIR));
    graph
}

/// The modules of one target, the root first, without those that only tests compile.
struct Modules<'a> {
    tree: &'a Tree,
    all: Vec<Module>,
}

impl<'a> Modules<'a> {
    /// Reads the target whose root is `file`.
    fn read(tree: &'a Tree, file: &str) -> Self {
        let mut modules = Self {
            tree,
            all: Vec::new(),
        };
        modules.add_file(file, dir_of(file), None);
        modules
    }

    /// Adds the module in `file` whose children have their files in `dir`. Files that are missing
    /// or do not parse are left to the compiler.
    fn add_file(&mut self, file: &str, dir: &str, parent: Option<usize>) -> Option<usize> {
        let parsed = syn::parse_file(self.tree.text(file)?).ok()?;
        Some(self.add(file, dir, dir_of(file), parent, &parsed.items))
    }

    /// Adds a module of `items`; `#[path]` attributes of its children are relative to `path_dir`.
    fn add(&mut self, file: &str, dir: &str, path_dir: &str, parent: Option<usize>, items: &[Item]) -> usize {
        let index = self.all.len();
        self.all.push(Module {
            file: file.to_owned(),
            parent,
            children: BTreeMap::new(),
            defined: Vec::new(),
            paths: Paths::default(),
        });
        for item in items {
            if attributes(item).iter().any(is_test_only) {
                continue;
            }
            if let Item::Mod(child) = item {
                if let Some(added) = self.add_child(child, file, dir, path_dir, index) {
                    self.all[index].children.insert(child.ident.to_string(), added);
                }
                continue;
            }
            let module = &mut self.all[index];
            module.defined.extend(defined_name(item).map(ToString::to_string));
            module.paths.collect(item);
        }
        index
    }

    fn add_child(
        &mut self,
        child: &ItemMod,
        file: &str,
        dir: &str,
        path_dir: &str,
        parent: usize,
    ) -> Option<usize> {
        let name = child.ident.to_string();
        let own_dir = format!("{dir}/{name}");
        if let Some((_, items)) = &child.content {
            return Some(self.add(file, &own_dir, &own_dir, Some(parent), items));
        }
        if let Some(path) = path_attribute(child) {
            let file = normalized(&format!("{path_dir}/{path}"));
            return self.add_file(&file, dir_of(&file), Some(parent));
        }
        let beside = format!("{dir}/{name}.rs");
        if self.tree.text(&beside).is_some() {
            return self.add_file(&beside, &own_dir, Some(parent));
        }
        self.add_file(&format!("{own_dir}/mod.rs"), &own_dir, Some(parent))
    }

    /// Every use of an item of another file, followed through re-exports to the file that defines
    /// it.
    fn edges(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (index, module) in self.all.iter().enumerate() {
            let imports = module
                .paths
                .imports
                .iter()
                .map(|import| (&import.path, import.name.is_none()));
            let mentions = module.paths.mentions.iter().map(|path| (path, false));
            for (path, is_glob) in imports.chain(mentions) {
                let to = match self.resolve(index, &path.segments, 0) {
                    Some(Named::Item(to)) => to,
                    Some(Named::Module(to)) if is_glob => to,
                    // The name of a module alone: the paths that start with it count.
                    Some(Named::Module(_)) | None => continue,
                };
                if self.all[to].file != module.file {
                    edges.push(Edge {
                        from: module.file.clone(),
                        to: self.all[to].file.clone(),
                        path: path.segments.join("::") + if is_glob { "::*" } else { "" },
                        line: path.line,
                    });
                }
            }
        }
        edges
    }

    /// Finds what `path` names in the module `from`; `None` for another crate.
    fn resolve(&self, from: usize, path: &[String], hops: usize) -> Option<Named> {
        let (first, rest) = path.split_first()?;
        if hops > MAX_HOPS {
            return None;
        }
        let mut at = match first.as_str() {
            "crate" => 0,
            "self" => from,
            "super" => self.all[from].parent?,
            name => match self.look_up(from, name, rest.is_empty(), hops)? {
                Named::Module(module) => module,
                item @ Named::Item(_) => return Some(item),
            },
        };
        for (index, name) in rest.iter().enumerate() {
            match name.as_str() {
                "self" => {}
                "super" => at = self.all[at].parent?,
                name => match self.look_up(at, name, index + 1 == rest.len(), hops) {
                    Some(Named::Module(module)) => at = module,
                    Some(item @ Named::Item(_)) => return Some(item),
                    // Re-exported from another crate, or made by a macro.
                    None => return Some(Named::Item(at)),
                },
            }
        }
        Some(Named::Module(at))
    }

    /// Finds a name in a module. A module is preferred for the start of a path and an item for its
    /// end, as both may have the name.
    fn look_up(&self, module: usize, name: &str, is_last: bool, hops: usize) -> Option<Named> {
        let Module {
            children,
            defined,
            paths,
            ..
        } = &self.all[module];
        let child = children.get(name).map(|child| Named::Module(*child));
        if child.is_some() && !is_last {
            return child;
        }
        if defined.iter().any(|defined| defined == name) {
            return Some(Named::Item(module));
        }
        for import in &paths.imports {
            let segments = &import.path.segments;
            let found = match &import.name {
                Some(imported) if imported == name => self.resolve(module, segments, hops + 1),
                Some(_) => None,
                None => match self.resolve(module, segments, hops + 1) {
                    Some(Named::Module(glob)) if glob != module => {
                        self.look_up(glob, name, is_last, hops + 1)
                    }
                    _ => None,
                },
            };
            if found.is_some() {
                return found;
            }
        }
        child
    }
}

fn dir_of(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// Removes `..` and `.` from a path.
fn normalized(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The value of the `#[path = "…"]` attribute of a module.
fn path_attribute(module: &ItemMod) -> Option<String> {
    module.attrs.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(path), ..
            }) => Some(path.value()),
            _ => None,
        },
        _ => None,
    })
}
