//! `[outbox]`: the events that wait for the portal.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::checker::Checker;

/// The events that wait for the portal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outbox {
    /// The directory of the events; `state_dir` when absent.
    pub dir: Option<PathBuf>,
    /// The bytes of all pending events; beyond that usage updates are dropped, then the oldest
    /// others, with an ERROR line and a count.
    pub max_bytes: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            dir: None,
            max_bytes: 256 << 20,
        }
    }
}

impl Outbox {
    pub(super) fn check(&self, checker: &mut Checker) {
        if let Some(dir) = &self.dir {
            checker.absolute("outbox.dir", dir);
        }
        let max_bytes = usize::try_from(self.max_bytes).unwrap_or(usize::MAX);
        checker.count("outbox.max_bytes", max_bytes, 65_536..=1 << 36);
    }

    /// The directory of the events, `state_dir` being that of the configuration.
    pub(crate) fn directory<'a>(&'a self, state_dir: &'a Path) -> &'a Path {
        self.dir.as_deref().unwrap_or(state_dir)
    }
}
