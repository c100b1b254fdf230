//! Drives a running ocserv over its control socket: who is connected, how the server is, end this session.
//!
//! It speaks the protocol that ocserv's own `occtl` program speaks, and needs neither that program nor its JSON (which
//! is invalid in some releases and damages names that are not ASCII in all of them). The protocol has no version and no
//! greeting, but has only grown since 1.1.2: unknown fields are ignored here, absent fields are unknown and never zero.
//!
//! [`ControlSocket`] is the shell: one connection for each call, one time limit around it, the request in one write.
//! Everything under it is pure: [`frame`] (bytes), [`wire`] (messages), and [`decode_list`] and its sisters, which take a
//! recorded reply to what the program works with.
//!
//! Leans on prost and tokio. Never knows: policy, events, the agent that uses it, or any clock but its own time limit.
//!
//! ```
//! # fn main() -> Result<(), occtl::DecodeError> {
//! let reply = include_bytes!("../tests/fixtures/1.5.0/native/list.bin");
//! let sessions = occtl::decode_list(reply)?;
//! let names: Vec<_> = sessions.iter().filter(|s| s.is_connected()).filter_map(|s| s.username.as_deref()).collect();
//! assert!(names.contains(&"zoë") && names.contains(&"sp ace"));
//! # Ok(())
//! # }
//! ```

mod clock;
mod command;
mod cookie;
mod decode;
mod error;
pub mod frame;
mod safe_id;
mod session;
mod socket;
mod status;
mod text;
pub mod wire;

pub use command::Command;
pub use cookie::{Cookie, LoginState};
pub use decode::{decode_bool, decode_cookies, decode_list, decode_status};
pub use error::{ControlError, DecodeError};
pub use prost;
pub use safe_id::{SafeId, SafeIdError};
pub use session::{PortProtocol, PortRule, Session, State, reports_session_start};
pub use socket::{ControlSocket, Observer};
pub use status::Status;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
