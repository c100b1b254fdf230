//! One running ocserv: who is connected, how to disconnect a session, and how to invalidate
//! cookies.
//!
//! Holds the agent's only control socket. Leans on `model` and `occtl`. Knows nothing of policy, of
//! the portal, or of what is recorded about a session: the caller decides whom to disconnect and
//! when.

mod connect_times;
mod cookies;
mod disconnect;
mod server;
mod session;
mod terminate;
mod usage;

pub use server::{Ocserv, Settings};
pub use session::{ConfirmedSession, LiveSession};
