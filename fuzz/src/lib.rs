//! One function for each kind of bytes that come from outside. Each panics when a promise about
//! them is broken. `cargo xtask fuzz` searches for such bytes; `tests/replay.rs` gives each
//! function the corpus that is committed.

mod config;
mod environment;
mod ipc;
mod occtl;
mod policy;
mod portal;
mod stored;

pub use config::config;
pub use environment::environment;
pub use ipc::{ipc_frame, ipc_message};
pub use occtl::occtl_reply;
pub use policy::policy_file;
pub use portal::portal_answer;
pub use stored::stored_record;

/// A fuzz target: its name, which is also that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All fuzz targets.
pub const TARGETS: [Target; 8] = [
    ("config", config),
    ("environment", environment),
    ("ipc_frame", ipc_frame),
    ("ipc_message", ipc_message),
    ("occtl_reply", occtl_reply),
    ("policy_file", policy_file),
    ("portal_answer", portal_answer),
    ("stored_record", stored_record),
];

/// Panics when `text`, which is printed to a terminal or a log, has control characters other than
/// line ends and tabs.
fn assert_printable(text: &str) {
    let control = text.chars().find(|&c| c.is_control() && c != '\n' && c != '\t');
    assert_eq!(control, None, "a control character in {text:?}");
}
