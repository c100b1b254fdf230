//! What `vpn-auth` and the agent say to each other: a 4-byte big-endian length, then that many bytes of UTF-8 JSON, one
//! request and one response per connection.
//!
//! [`FrameDecoder`] and the messages are pure: bytes in, values out, so that the agent can use them under its own
//! runtime. [`client`] is the blocking half that the helper uses; it alone touches a socket and a clock.
//!
//! Leans on `std`, `serde`, `serde_json`, and on `rustix` for the one call that `std` lacks (see [`client`]). It never
//! knows what a policy is, who may log in, or where a configuration lives.
//!
//! The rule that everything here serves: **only a complete, valid allow is an allow.** Whatever is cut, oversized,
//! followed by more bytes, of the wrong type or said twice is an error, and an error is never an allow.

pub mod client;
mod frame;
mod message;

pub use frame::{FrameDecoder, FrameError, MAX_FRAME, encode_frame};
pub use message::{MessageError, PROTOCOL_VERSION, Request, Response};
