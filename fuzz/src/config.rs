//! The configuration file and its environment variables.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::{env, fs, process};

use agent::config::Document;

/// The file that the loader reads; one for the whole process.
static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| env::temp_dir().join(format!("ocserv-agent-fuzz-{}.toml", process::id())));

/// A configuration is accepted, or refused with printable problems. Lines that begin with
/// `OCSERV_AGENT__` are environment variables.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (variables, file): (Vec<&str>, Vec<&str>) = text
        .lines()
        .partition(|line| line.starts_with(agent::config::ENV_PREFIX));
    let variables = variables.iter().filter_map(|line| line.split_once('='));
    let variables: Vec<_> = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    fs::write(&*FILE, file.join("\n")).expect("the temporary directory can be written");
    match Document::read(&FILE, variables).and_then(|document| document.parse()) {
        Err(error) => crate::assert_printable(&error.to_string()),
        Ok(config) => drop(config),
    }
}
