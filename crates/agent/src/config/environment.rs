//! The two sources of a configuration: the file's text and the environment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::error::{ConfigError, Location, Problem};

/// The prefix of environment variables that set keys: `OCSERV_AGENT__SECTION__KEY`.
pub const ENV_PREFIX: &str = "OCSERV_AGENT__";

/// The largest file, in bytes: a wrong path (a disk image, `/dev/zero`) must not exhaust the
/// memory.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the file. Blocks on the disk.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |what| ConfigError {
        problems: vec![Problem {
            location: Location::File {
                path: path.to_owned(),
                line: None,
            },
            key: String::new(),
            what,
        }],
    };
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut text))
        .map_err(|error| failed(format!("cannot be read: {error}")))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(failed(format!("is larger than {MAX_BYTES} bytes")));
    }
    String::from_utf8(text).map_err(|_| failed("cannot be read: it is not UTF-8".to_owned()))
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
