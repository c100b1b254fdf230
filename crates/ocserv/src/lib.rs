//! One running ocserv: lists and disconnects sessions, and invalidates cookies.
//!
//! The only crate that holds a control socket. Depends on `model` and `occtl`. Knows nothing of
//! policy, the portal or recorded sessions: the caller chooses what to disconnect and when.

mod clock;
mod connect_times;
mod cookies;
mod disconnect;
mod pacer;
mod server;
mod session;
mod shared_list;
mod terminate;
mod usage;
mod version;

pub use server::{Ocserv, Settings};
pub use session::{ConfirmedSession, LiveSession};
pub use usage::UsageError;
