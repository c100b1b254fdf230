//! The vocabulary of the agent: names, sessions, decisions, reasons, events, routes, one-line text.
//!
//! Depends on std only. Every type is checked by its constructor: no name can leave a directory,
//! break a line or look like a command-line option. Knows nothing of wire formats, files or clocks.

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
pub use event::{Connected, Disconnected, Event, EventId, EventKind, Reconciled, SessionStatus, Updated};
pub use login::Login;
pub use name::{GroupName, NameError, Username, VhostName};
pub use route::{Route, RouteError};
pub use session::{OcservId, OcservIdError, SessionUid, Usage};
pub use text::{escaped_line, one_line};
