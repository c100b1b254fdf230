//! TLS identities: load, check, hot reload, for both directions; and who the peer is.
//!
//! For everything here: TLS 1.3 only, both sides prove who they are, HTTP/2 is the only protocol spoken inside, and no
//! session is resumed, so that every connection is checked against the certificates of this moment. Leans on rustls
//! with the aws-lc-rs provider. Knows nothing of gRPC, of the config file, or of what a peer may do: it says who the
//! peer is, the caller says what that means.

pub mod accept;
mod explain;
mod identity;
mod peer;
mod pem;
mod reload;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use explain::{explain, explain_tls};
pub use identity::{Identity, IdentityError, IdentityFiles};
pub use peer::{Peer, PeerError, peer_of};
pub use reload::{ClientTls, Loaded, ServerTls};

/// The protocol inside: HTTP/2, by its ALPN name.
const ALPN_H2: &[u8] = b"h2";

/// Makes aws-lc-rs the process's TLS provider, for libraries that ask for "the default". May be called any number of
/// times; the configurations made by this crate name their provider themselves and do not need it.
pub fn install_provider() {
    // An error means that one is installed already, which is what was asked for.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
