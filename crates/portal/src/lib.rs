//! The client of the portal: one connection that keeps itself up, the policy question, and the delivery of events.
//!
//! The connection is our own rather than tonic's channel, because it must do what that one cannot: TLS 1.3 only with
//! an identity that changes at run time, a reason in plain words for every failure (in TLS 1.3 a client learns of its
//! refusal only when it reads), and calls that fail at once while the portal is known to be away.
//!
//! Leans on `model`, `proto`, `tls` and the backoff of `resilience`. Knows nothing of breakers, caches and fail modes: it says whether it got an
//! answer, an outage or a refusal ([`CheckError::is_outage`]), and the caller decides what that means.

mod calls;
mod convert;
mod dial;
mod error;
mod link;
mod owner;
mod service;
mod settings;
mod together;

pub use calls::{Answer, Validity};
pub use error::{CheckError, DeliverError};
pub use owner::{ConnectionState, Portal};
pub use settings::{ReconnectSettings, Settings, SettingsError};
