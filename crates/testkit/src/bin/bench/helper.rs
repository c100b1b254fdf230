//! The helper as shipped, and the script by which ocserv runs it.

use std::env;
use std::path::PathBuf;

use testkit::lab::{Script, own_program};

use super::report::Failure;

/// The path of the helper; without it, the one among the other programs is used.
const HELPER: &str = "OCSERV_AGENT_HELPER";

/// Returns the wrapper as operators get it, with this helper and the lab's socket.
pub(crate) fn wrapper() -> Result<Script, Failure> {
    let helper = match env::var_os(HELPER) {
        Some(path) => PathBuf::from(path),
        None => own_program("vpn-auth")?,
    };
    let text = include_str!("../../../../../deploy/connect-script")
        .replace("/usr/bin/vpn-auth", &helper.to_string_lossy())
        .replace("/run/ocserv-agent/ipc.sock", "@DIR@/agent/ipc.sock");
    Ok(Script::Text(text))
}
