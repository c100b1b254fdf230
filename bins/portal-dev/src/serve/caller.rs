//! The caller of a request.

use std::sync::Arc;

use tls::Peer;
use tonic::Request;

/// Returns the label of the caller's certificate.
pub(super) fn caller<T>(request: &Request<T>) -> String {
    let peer = request.extensions().get::<Arc<Peer>>();
    peer.map_or_else(|| "unknown".to_owned(), |peer| peer.label())
}
