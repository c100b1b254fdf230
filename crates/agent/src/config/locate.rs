//! Finds the line of a key in the file.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The lines of the keys of one file.
pub(super) struct Lines<'a> {
    root: Spanned<DeTable<'a>>,
    /// The offset of the end of each line but the last.
    ends: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let (root, _errors) = DeTable::parse_recoverable(text);
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            root,
            ends: ends.map(|(offset, _)| offset).collect(),
        }
    }

    /// The line of `path`, or of the closest section around it that is in the file; `None` when
    /// there is none.
    pub(super) fn of(&self, path: &[String]) -> Option<usize> {
        let mut table = Some(self.root.get_ref());
        let mut found = None;
        for word in path {
            let Some((key, value)) = table.and_then(|table| table.get_key_value(word.as_str())) else {
                break;
            };
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
        self.ends.partition_point(|end| *end < offset) + 1
    }
}
