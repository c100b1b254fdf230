//! Converts a position in the text to its line and key.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Returns the line of byte `at`, from 1.
pub(crate) fn line(text: &str, at: usize) -> usize {
    1 + text
        .as_bytes()
        .iter()
        .take(at)
        .filter(|&&byte| byte == b'\n')
        .count()
}

/// Returns the innermost key at byte `at`, such as `rules[2].networks[0]`; empty outside of any
/// key.
pub(crate) fn key(root: &DeTable<'_>, at: usize) -> String {
    in_table(root, at, "").unwrap_or_default()
}

fn in_table(table: &DeTable<'_>, at: usize, prefix: &str) -> Option<String> {
    let path = |key: &str| {
        if prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{prefix}.{key}")
        }
    };
    // The span of a table under a header is the header alone, so the values are searched first.
    let inside = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        in_value(value, at, &path(AsRef::<str>::as_ref(key.get_ref())))
    };
    let on_key = |(key, _): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        covers(&key.span(), at).then(|| path(key.get_ref()))
    };
    table
        .iter()
        .find_map(inside)
        .or_else(|| table.iter().find_map(on_key))
}

fn in_value(value: &Spanned<DeValue<'_>>, at: usize, path: &str) -> Option<String> {
    let inside = match value.get_ref() {
        DeValue::Table(table) => in_table(table, at, path),
        DeValue::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| in_value(item, at, &format!("{path}[{index}]"))),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => None,
    };
    inside.or_else(|| covers(&value.span(), at).then(|| path.to_owned()))
}

fn covers(span: &Range<usize>, at: usize) -> bool {
    span.contains(&at)
}
