//! The client of the portal: one self-healing connection, the policy check, session validation and
//! event reports.
//!
//! The connection is our own rather than tonic's channel: TLS 1.3 only, with an identity that can
//! be reloaded, a readable reason for every failure (in TLS 1.3 a client learns of its refusal only
//! when it reads), and calls that fail at once while the portal is known to be unreachable.
//!
//! Leans on `model`, `proto`, `tls` and the backoff of `resilience`. Knows nothing of breakers,
//! caches and fail modes: it reports an answer, an outage or a denial ([`CheckError::is_outage`]),
//! and the caller decides what that means.

mod client;
mod clock;
mod connection;
mod connection_manager;
mod convert;
mod diagnostic_stream;
mod dial;
mod error;
mod grpc_service;
mod reply;
mod settings;
mod text;

pub use client::Portal;
pub use connection_manager::ConnectionState;
pub use error::{CheckError, ReportError};
pub use reply::{PolicyReply, SessionValidity};
pub use settings::{ReconnectSettings, Settings, SettingsError};
