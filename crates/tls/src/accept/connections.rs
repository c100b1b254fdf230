//! The connections that are up, so that one can be ended whose peer lost our trust in a reload.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::{Peer, ServerTls, explain_tls};

/// All of them; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    up: BTreeMap<u64, Arc<Proof>>,
}

/// What a peer proved, and with what.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) peer: Arc<Peer>,
    pub(super) address: SocketAddr,
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Cancelled when it is worth nothing any more.
    pub(super) distrusted: CancellationToken,
}

/// One of them; it leaves when dropped.
#[derive(Debug)]
pub(super) struct Listed {
    list: Connections,
    number: u64,
}

impl Connections {
    pub(super) fn enter(&self, proof: Arc<Proof>) -> Listed {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.up.insert(number, proof);
        drop(state);
        Listed {
            list: self.clone(),
            number,
        }
    }

    /// Ends those that `tls` would not let in now. One at a time, so that others get to work in between.
    pub(super) async fn judge(&self, tls: &ServerTls) {
        let all: Vec<_> = self.state().up.values().cloned().collect();
        for proof in all {
            proof.judge(tls);
            tokio::task::yield_now().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proof {
    /// Ends the connection if `tls` would not let its peer in now.
    pub(super) fn judge(&self, tls: &ServerTls) {
        if self.distrusted.is_cancelled() {
            return;
        }
        if let Err(error) = tls.verify(&self.chain) {
            let (label, address, why) = (self.peer.label(), self.address, explain_tls(&error));
            tracing::warn!("ended the connection of {label} at {address} after a reload: {why}");
            self.distrusted.cancel();
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.list.state().up.remove(&self.number);
    }
}
