//! The protocol between `vpn-auth` and the agent: one request and one response per connection, each
//! a 4-byte big-endian length and that many bytes of UTF-8 JSON.
//!
//! [`FrameDecoder`] and the messages are pure: bytes in, values out, so that the agent can use them
//! under its own runtime. [`client`] is the blocking client that the helper uses; it alone touches
//! a socket and a clock.
//!
//! Leans on `std`, `serde`, `serde_json`, and on `rustix` for the one call that `std` lacks (see
//! [`client`]). It never knows policy, sessions or configuration.
//!
//! The invariant: **only a complete, valid allow is an allow.** Whatever is truncated, oversized,
//! followed by more bytes, of the wrong type or given twice is an error, and an error is never an
//! allow.

pub mod client;
mod frame;
mod message;

pub use frame::{FrameDecoder, FrameError, MAX_FRAME, encode_frame};
pub use message::{MessageError, PROTOCOL_VERSION, Request, Response};
