//! The paths that Rust code names: `use` declarations, paths in code and types, paths in macro
//! calls. Leaves out code that only tests compile, attributes and visibilities.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, UseTree};

/// A name that a `use` declaration brings into scope.
pub(super) struct Import {
    /// The name; `None` for a glob.
    pub(super) name: Option<String>,
    pub(super) path: PathUse,
}

/// A path at a place in a file.
pub(super) struct PathUse {
    pub(super) segments: Vec<String>,
    /// From 1.
    pub(super) line: usize,
}

/// What one module names, without its child modules.
#[derive(Default)]
pub(super) struct Paths {
    pub(super) imports: Vec<Import>,
    /// Paths of two segments and more: a single name is defined in the module or imported.
    pub(super) mentions: Vec<PathUse>,
}

impl Paths {
    pub(super) fn collect(&mut self, item: &Item) {
        self.visit_item(item);
    }

    fn mention(&mut self, segments: Vec<String>, line: usize) {
        if segments.len() > 1 {
            self.mentions.push(PathUse { segments, line });
        }
    }

    fn import(&mut self, tree: &UseTree, prefix: &[String]) {
        let (ident, name) = match tree {
            UseTree::Path(path) => {
                let prefix = joined(prefix, &path.ident);
                return self.import(&path.tree, &prefix);
            }
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.import(tree, prefix)),
            UseTree::Glob(glob) => {
                let (segments, line) = (prefix.to_vec(), glob.star_token.span.start().line);
                let path = PathUse { segments, line };
                return self.imports.push(Import { name: None, path });
            }
            UseTree::Name(name) => (&name.ident, &name.ident),
            UseTree::Rename(rename) => (&rename.ident, &rename.rename),
        };
        let line = ident.span().start().line;
        // `a::{self}` imports `a`.
        let (segments, name) = if ident == "self" && !prefix.is_empty() {
            let name = if name == "self" {
                prefix[prefix.len() - 1].clone()
            } else {
                name.to_string()
            };
            (prefix.to_vec(), name)
        } else {
            (joined(prefix, ident), name.to_string())
        };
        let path = PathUse { segments, line };
        self.imports.push(Import {
            name: Some(name),
            path,
        });
    }

    /// Finds paths in the tokens of a macro call, which are not parsed.
    fn scan(&mut self, tokens: TokenStream) {
        let (mut segments, mut line, mut colons) = (Vec::new(), 0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 || segments.is_empty() {
                        self.mention(std::mem::take(&mut segments), line);
                        line = ident.span().start().line;
                    }
                    segments.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.mention(std::mem::take(&mut segments), line);
                    self.scan(group.stream());
                    colons = 0;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.mention(std::mem::take(&mut segments), line);
                    colons = 0;
                }
            }
        }
        self.mention(segments, line);
    }
}

fn joined(prefix: &[String], ident: &syn::Ident) -> Vec<String> {
    let mut segments = prefix.to_vec();
    segments.push(ident.to_string());
    segments
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).iter().any(is_test_only) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {
        // A module of its own.
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            self.import(&item.tree, &[]);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !item.attrs.iter().any(is_test_only) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !field.attrs.iter().any(is_test_only) {
            visit::visit_field(self, field);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !local.attrs.iter().any(is_test_only) {
            visit::visit_local(self, local);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let line = path.segments[0].ident.span().start().line;
            let segments = path.segments.iter().map(|segment| segment.ident.to_string());
            self.mention(segments.collect(), line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.scan(call.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

/// The attributes of an item.
pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The name that an item defines in its module.
pub(super) fn defined_name(item: &Item) -> Option<&syn::Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Macro(item) => item.ident.as_ref(),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        _ => None,
    }
}

/// Whether the attribute is `#[cfg(test)]` or `#[cfg(all(test, …))]`.
pub(super) fn is_test_only(attribute: &Attribute) -> bool {
    fn requires_test(meta: &Meta) -> bool {
        match meta {
            Meta::Path(path) => path.is_ident("test"),
            Meta::List(list) if list.path.is_ident("all") => nested(list).iter().any(requires_test),
            Meta::List(_) | Meta::NameValue(_) => false,
        }
    }
    fn nested(list: &syn::MetaList) -> Vec<Meta> {
        let parser = syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated;
        list.parse_args_with(parser)
            .map_or_else(|_| Vec::new(), |metas| metas.into_iter().collect())
    }
    match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => nested(list).iter().any(requires_test),
        _ => false,
    }
}
