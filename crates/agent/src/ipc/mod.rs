//! The endpoint of `vpn-auth`: a Unix socket with one request and one response per connection.
//!
//! A peer is untrusted until the kernel has named its user, and may be slow: every connection has its
//! own time limits and sizes, and none can keep another one waiting.

mod confirmation;
mod connection;
mod frames;
mod handler;
mod listener;
mod request;
mod response;
mod server;

pub(crate) use handler::{Dependencies, DynamicSettings};
pub(crate) use listener::{BindError, IpcListener};
pub(crate) use server::Server;
