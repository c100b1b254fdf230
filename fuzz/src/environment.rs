//! The variables that ocserv sets for `vpn-auth`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

#[rustfmt::skip] // Its own workspace formats it.
#[path = "../../bins/vpn-auth/src/environment.rs"]
mod helper;

/// A request that the helper makes of its variables is one that the agent reads.
pub fn environment(data: &[u8]) {
    // As in /proc/PID/environ: NAME=value, each ended by a NUL.
    let value = |name: &str| {
        let of_name = |entry: &[u8]| Some(entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec());
        data.split(|&byte| byte == 0)
            .find_map(of_name)
            .map(OsString::from_vec)
    };
    match helper::request_from(value) {
        Err(error) => crate::assert_printable(&error.to_string()),
        Ok(request) => {
            let frame = request.to_frame().expect("a request of bounded values fits");
            assert_eq!(ipc::Request::from_json(&frame[4..]).ok(), Some(request));
        }
    }
}
