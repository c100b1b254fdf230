//! The socket on which the connect-script's helper asks: one request and one response per connection.
//!
//! Whoever connects is untrusted until the kernel has said who it is, and slow until it has proved otherwise: every
//! connection has its own times and sizes, and no connection can keep another one from its answer.

mod beginnings;
mod bind;
mod bytes;
mod convert;
mod counts;
mod desk;
mod gate;
mod line;
mod quiet;
mod respond;
mod serve;

pub use bind::{BindError, Door, inherited};
pub use convert::{Ask, BadRequest, read_request};
pub use counts::Counts;
pub use desk::{Decide, Deciding, Parts, Recall};
pub use serve::{Rules, Server};
