//! The logins in progress and live sessions of one server, and the events of their changes.
//!
//! ocserv decides who is connected; the store adds what ocserv does not have: the uid of a session,
//! the source of its decision, and the reason of its end. An entry is created by the
//! connect-script's request, becomes a session when the helper has read the allow, and is removed
//! by the disconnect-script's report. The store is bounded and in memory only: the uid of a session
//! that is not in it comes from ocserv's list ([`SessionStore::import`]) or, within about a second,
//! from the duration that its disconnect-script reports.
//!
//! Depends on `ocserv-agent-model` only. Plain values: no clock (`now` is a parameter), no I/O, no
//! lock.

mod store;
mod time;

pub use store::{DisconnectReport, ExistingSession, LoginHandle, SessionStore};
