//! Reads `ipc.socket` alone, so that `ocserv-agent decisions` works with a configuration that is
//! broken elsewhere.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::{read, variables};
use super::error::{ConfigError, Location, Problem};
use super::ipc::Ipc;
use super::locate::Lines;

const KEY: [&str; 2] = ["ipc", "socket"];

/// The value of `ipc.socket`: from `environment` (name and value; other names are ignored), else
/// from the file at `path`, else the default. Other keys are not checked.
///
/// # Errors
/// When the file is needed and cannot be read, or the value is no path.
pub fn ipc_socket(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<PathBuf, ConfigError> {
    let key = KEY.map(str::to_owned);
    if let Some(value) = variables(environment).remove(&key[..]) {
        return Ok(PathBuf::from(value));
    }
    let text = read(path)?;
    let (root, _errors) = DeTable::parse_recoverable(&text);
    let value = match root.get_ref().get(KEY[0]).map(Spanned::get_ref) {
        Some(DeValue::Table(section)) => section.get(KEY[1]).map(Spanned::get_ref),
        _ => None,
    };
    match value {
        None => Ok(Ipc::default().socket),
        Some(DeValue::String(socket)) => Ok(PathBuf::from(socket.as_ref())),
        Some(_) => Err(ConfigError {
            problems: vec![Problem {
                location: Location::File {
                    path: path.to_owned(),
                    line: Lines::new(&text).of(&key),
                },
                key: KEY.join("."),
                what: "expected a path".to_owned(),
            }],
        }),
    }
}
