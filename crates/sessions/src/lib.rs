//! The logins in progress and live sessions of one server, and the events of their changes.
//!
//! ocserv decides who is connected; the store adds what ocserv does not have: the uid of a session,
//! the source of its decision, and the reason of its end. Two sources meet here: the scripts, which
//! are immediate and have the final byte counts, and ocserv's list, which is complete. An entry is
//! created by the connect-script's request and becomes a session when the helper has read the
//! allow; [`SessionStore::reconcile`] adds what no script reported and ends what ocserv no longer
//! lists. The store is bounded. Each change comes with the rows that [`SessionStore::restore`]
//! reads after a restart.
//!
//! Depends on `ocserv-agent-model` only. Plain values: no clock (`now` is a parameter), no I/O, no
//! lock.

mod changes;
mod ended;
mod listed;
mod queries;
mod reconcile;
mod report;
mod restore;
mod row;
mod sample;
mod session;
mod store;
mod time;

pub use changes::{Changes, RowChange};
pub use listed::{ListMark, ListedSession};
pub use reconcile::Plan;
pub use report::DisconnectReport;
pub use row::RowError;
pub use session::Session;
pub use store::{LoginHandle, SessionStore};
