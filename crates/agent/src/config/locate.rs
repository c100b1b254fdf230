//! Finds the line of a key in the file.

use toml::de::{DeTable, DeValue};

/// The lines of the keys of one file.
pub(super) struct Lines<'a> {
    text: &'a str,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text }
    }

    /// The line of `path`, or of the closest section around it that is in the file; `None` when
    /// there is none.
    pub(super) fn of(&self, path: &[String]) -> Option<usize> {
        let (root, _errors) = DeTable::parse_recoverable(self.text);
        let mut table = Some(root.get_ref());
        let mut found = None;
        for word in path {
            let entry = table.and_then(|table| table.iter().find(|(key, _)| *key.get_ref() == word.as_str()));
            let Some((key, value)) = entry else { break };
            found = Some(key.span().start);
            table = match value.get_ref() {
                DeValue::Table(table) => Some(table),
                _ => None,
            };
        }
        found.map(|offset| self.line_at(offset))
    }

    /// The line of a byte, counted from 1.
    pub(super) fn line_at(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
    }
}
