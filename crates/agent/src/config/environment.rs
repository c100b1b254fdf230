//! The two sources of a configuration: the file's text and the environment.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{ConfigError, Location, Problem};

/// The prefix of environment variables that set keys: `OCSERV_AGENT__SECTION__KEY`.
pub const ENV_PREFIX: &str = "OCSERV_AGENT__";

/// Reads the file. Blocks on the disk.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|err| ConfigError {
        problems: vec![Problem {
            location: Location::File {
                path: path.to_owned(),
                line: None,
            },
            key: String::new(),
            what: format!("cannot be read: {err}"),
        }],
    })
}

/// The environment variables that set keys, by the key's path.
pub(super) fn variables(
    environment: impl IntoIterator<Item = (String, String)>,
) -> BTreeMap<Vec<String>, String> {
    let key = |name: &str| -> Option<Vec<String>> {
        Some(
            name.strip_prefix(ENV_PREFIX)?
                .split("__")
                .map(str::to_ascii_lowercase)
                .collect(),
        )
    };
    environment
        .into_iter()
        .filter_map(|(name, value)| Some((key(&name)?, value)))
        .collect()
}

/// The variable that sets the key at `path`.
pub(super) fn variable_name(path: &[String]) -> String {
    format!("{ENV_PREFIX}{}", path.join("__").to_ascii_uppercase())
}
