//! The client of the portal: two self-healing connections, one of them for logins alone; the policy
//! check, session validation, event reports and the control stream.
//!
//! It does not use tonic's channel, which has no reload of the identity, no readable reason for
//! every failure (in TLS 1.3 a client sees its refusal only when it reads), and no calls that fail
//! at once while the portal is unreachable.
//!
//! Depends on `model`, `proto`, `tls` and the backoff of `resilience`. Knows nothing of breakers,
//! caches and fail modes: it returns a reply, or an error with its meaning
//! ([`CheckError::meaning`]).

mod answer;
mod client;
mod clock;
mod connection;
mod connection_manager;
mod control_stream;
mod convert;
mod diagnostic_stream;
mod dial;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grpc_service;
mod reply;
mod settings;
mod text;

pub use client::Portal;
pub use connection_manager::ConnectionState;
pub use control_stream::{
    AgentHealth, ControlSender, ControlStats, ControlStream, Heartbeat, Instruction, InstructionKind,
    MetricsReport, Notification, OcservState, Register, SystemLoad,
};
pub use error::{CheckError, Meaning, ReportError};
pub use reply::{PolicyReply, SessionValidity};
pub use settings::{Limits, ReconnectSettings, Settings, SettingsError};
