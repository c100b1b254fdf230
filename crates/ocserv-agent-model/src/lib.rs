//! The vocabulary of the agent: names, sessions, decisions, reasons, events, routes, one-line text.
//!
//! Leans on std alone. Every type is checked where it is made, so that code behind the edge cannot
//! meet a name that leaves a directory, breaks a line or pretends to be an option. Knows nothing of
//! wires, files or clocks.

mod decision;
mod disconnect_reason;
mod error;
mod event;
mod login;
mod name;
mod route;
mod session;
mod text;

pub use decision::{Decision, Denial, DenyCode, Grant, Source, Verdict};
pub use disconnect_reason::DisconnectReason;
pub use error::error_chain;
pub use event::{Connected, Disconnected, Event, EventId, EventKind};
pub use login::Login;
pub use name::{GroupName, NameError, Username, VhostName};
pub use route::{Route, RouteError};
pub use session::{OcservId, OcservIdError, SessionUid, Usage};
pub use text::one_line;
