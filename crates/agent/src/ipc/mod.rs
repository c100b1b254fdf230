//! The endpoint of `vpn-auth`: a Unix socket with one request and one response per connection.
//!
//! A peer is authenticated by its uid from the kernel, and may be slow: every connection has time
//! and size limits of its own, and none delays another.

mod audit;
mod confirmation;
mod connection;
mod deadline;
mod frames;
mod handler;
mod listener;
mod operator;
mod ping;
mod request;
mod response;
mod server;
mod warnings;

pub(crate) use handler::{Dependencies, DynamicSettings};
pub(crate) use listener::{BindError, IpcListener};
pub(crate) use ping::{Ping, Pong};
pub(crate) use server::Server;
