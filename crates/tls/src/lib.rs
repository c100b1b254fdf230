//! TLS identities for both directions (load, check, hot reload), the bounded accept loop, and the
//! names of the authenticated peer.
//!
//! Everything here is TLS 1.3 only and mutually authenticated, negotiates HTTP/2 only, and resumes
//! no sessions, so that every connection is verified against the current certificates. Depends on
//! rustls with the aws-lc-rs provider, and on `resilience` for the limiters. A tonic server can
//! serve its connections. Knows nothing of the config file or of roles: authorization is the
//! caller's.

pub mod accept;
mod clock;
mod expiry;
mod explain;
mod identity;
mod identity_error;
mod peer;
mod pem;
mod provider;
mod reload;
mod subject_name;

pub use expiry::{Expiry, ExpiryStage};
pub use explain::{explain, explain_tls};
pub use identity::{Identity, IdentityFiles};
pub use identity_error::IdentityError;
pub use peer::{Peer, PeerError, peer_of};
pub use provider::install_provider;
pub use reload::{ClientTls, IdentityStatus, ServerTls};
pub use subject_name::{SubjectName, SubjectNameError};
