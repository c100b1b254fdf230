//! A client of ocserv's control socket: server status, sessions, disconnect, cookies.
//!
//! It speaks the protocol of ocserv's own `occtl` program and needs neither that program nor its
//! JSON (which is invalid in some releases and damages names that are not ASCII in all of them).
//! The protocol has no version and no handshake, but has only been extended since 1.1.2: unknown
//! fields are ignored here, absent fields are unknown and never zero.
//!
//! [`ControlSocket`] does the I/O: one connection per call, one timeout for the whole call, the
//! request in one write. Everything below it is pure: [`frame`] (bytes), [`wire`] (messages), and
//! the decoders such as [`decode_list`], which turn a whole reply into [`Session`]s, a [`Status`]
//! or [`Cookie`]s.
//!
//! Leans on prost and tokio. Never knows policy, events, the program that uses it, or any clock but
//! the timeout's.
//!
//! ```
//! # fn main() -> Result<(), occtl::DecodeError> {
//! let reply = include_bytes!("../tests/fixtures/1.5.0/native/list.bin");
//! let sessions = occtl::decode_list(reply)?;
//! let connected = sessions.iter().filter(|session| session.is_connected());
//! let names: Vec<_> = connected.filter_map(|session| session.username.as_deref()).collect();
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
