//! The peers of authenticated connections, which are reverified after a reload and at intervals.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::clock;
use crate::explain::explain_tls;
use crate::peer::Peer;
use crate::reload::ServerTls;

/// Longest time between two verifications of an open connection's chain. Bounds how long an expired
/// intermediate certificate or a step of the clock goes unnoticed.
const REVERIFY_INTERVAL: Duration = Duration::from_mins(1);

/// Holds the verified peer of every connection; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct PeerRegistry(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    peers: BTreeMap<u64, Arc<VerifiedPeer>>,
}

/// The peer of one connection, with the chain that was verified.
#[derive(Debug)]
pub(super) struct VerifiedPeer {
    pub(super) peer: Arc<Peer>,
    pub(super) address: SocketAddr,
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// When the peer's own certificate expires, in seconds since 1970: its last valid second.
    pub(super) expires: u64,
    /// Cancelled when the chain is no longer trusted.
    pub(super) revoked: CancellationToken,
}

/// A peer's entry in the registry; removes it when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    registry: PeerRegistry,
    id: u64,
}

impl PeerRegistry {
    pub(super) fn register(&self, peer: Arc<VerifiedPeer>) -> Registration {
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        state.peers.insert(id, peer);
        drop(state);
        Registration {
            registry: self.clone(),
            id,
        }
    }

    /// Reverifies every peer, yielding to other tasks in between.
    pub(super) async fn reverify(&self, tls: &ServerTls) {
        let peers: Vec<_> = self.state().peers.values().cloned().collect();
        for peer in peers {
            peer.reverify(tls);
            tokio::task::yield_now().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VerifiedPeer {
    pub(super) fn new(peer: Arc<Peer>, address: SocketAddr, chain: &[CertificateDer<'_>]) -> Self {
        let own = chain.first().and_then(|der| X509Certificate::from_der(der).ok());
        let expires = own.map_or(0, |(_, own)| own.validity().not_after.timestamp());
        Self {
            peer,
            address,
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            expires: u64::try_from(expires).unwrap_or(0),
            revoked: CancellationToken::new(),
        }
    }

    /// Returns the time until the chain must be verified again: when the peer's own certificate
    /// expires, at most [`REVERIFY_INTERVAL`].
    pub(super) fn reverify_after(&self) -> Duration {
        let left = (self.expires + 1).saturating_sub(clock::wall().as_secs());
        match Duration::from_secs(left) {
            Duration::ZERO => REVERIFY_INTERVAL,
            left => left.min(REVERIFY_INTERVAL),
        }
    }

    /// Revokes the connection unless `tls` still trusts its chain.
    pub(super) fn reverify(&self, tls: &ServerTls) {
        if self.revoked.is_cancelled() {
            return;
        }
        if let Err(error) = tls.verify(&self.chain) {
            let (label, address, reason) = (self.peer.label(), self.address, explain_tls(&error));
            tracing::warn!("closed the connection of {label} at {address}: {reason}");
            self.revoked.cancel();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.state().peers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_ends_with_its_connection() {
        let registry = PeerRegistry::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let peer = Arc::new(VerifiedPeer::new(Arc::default(), address, &[]));
        let (first, second) = (registry.register(Arc::clone(&peer)), registry.register(peer));
        assert_eq!(registry.state().peers.len(), 2);
        drop((first, second));
        assert!(registry.state().peers.is_empty());
    }

    #[test]
    fn a_peer_is_verified_again_when_its_certificate_expires_and_once_a_minute() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let after = |expires| {
            let peer = VerifiedPeer::new(Arc::default(), address, &[]);
            VerifiedPeer { expires, ..peer }.reverify_after().as_secs()
        };
        let now = clock::wall().as_secs();
        assert!((1..=31).contains(&after(now + 30)));
        assert_eq!([now + 86_400, now - 30, 0].map(after), [60; 3]);
    }
}
