//! Who is connected: the sessions that this agent knows, and the events that their changes bring
//! about.
//!
//! ocserv is the truth about who is connected; the store has what ocserv does not know: the uid of
//! a session, how its login was decided, and why its end is expected. An entry starts with the
//! connect-script's request, becomes a session when the helper has read the answer, and goes with
//! the disconnect-script's report. The store is bounded and in memory only: a session that it does
//! not know gets its uid back from ocserv's list ([`SessionStore::import`]) or, give or take a
//! second, from the duration that its disconnect-script reports.
//!
//! Leans on `ocserv-agent-model` alone. Plain values: no clock (`now` is a parameter), no I/O, no
//! lock.

mod store;

pub use store::{DisconnectReport, ExistingSession, LoginHandle, SessionStore};
