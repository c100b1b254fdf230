//! The TLS provider and the protocol negotiated inside TLS.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// ALPN name of HTTP/2.
pub(crate) const ALPN_H2: &[u8] = b"h2";

/// Installs aws-lc-rs as the process's TLS provider, for libraries that use the default one. May be
/// called any number of times; the configurations of this crate do not need it.
pub fn install_provider() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
