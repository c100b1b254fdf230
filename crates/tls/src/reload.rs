//! Identities that can be reloaded while the process runs.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;

use crate::expiry::Expiry;
use crate::identity::{Identity, IdentityFiles};
use crate::identity_error::IdentityError;

/// Expiry and warnings of a loaded identity, for metrics and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityStatus {
    /// When the first certificate of our chain expires.
    pub certificate: Expiry,
    /// When the first of the CAs expires.
    pub ca: Expiry,
    /// Problems that do not prevent the use of the identity; one line each.
    pub warnings: Vec<String>,
}

impl From<&Identity> for IdentityStatus {
    fn from(identity: &Identity) -> Self {
        Self {
            certificate: identity.certificate().clone(),
            ca: identity.ca().clone(),
            warnings: identity.warnings().to_vec(),
        }
    }
}

#[derive(Debug)]
struct Current<C> {
    config: Arc<C>,
    identity: Identity,
}

#[derive(Debug)]
struct Shared<C> {
    files: IdentityFiles,
    current: watch::Sender<Arc<Current<C>>>,
}

type Build<C> = fn(&Identity) -> Result<Arc<C>, IdentityError>;

impl<C> Current<C> {
    fn of(identity: Identity, build: Build<C>) -> Result<Arc<Self>, IdentityError> {
        let config = build(&identity)?;
        Ok(Arc::new(Self { config, identity }))
    }
}

/// Rejects an expired certificate: the one in use may still be valid.
fn load_unexpired<C>(files: &IdentityFiles, build: Build<C>) -> Result<Arc<Current<C>>, IdentityError> {
    let identity = Identity::load(files)?;
    match identity.expired_on() {
        Some(on) => Err(IdentityError::Expired {
            path: files.cert.clone(),
            on,
        }),
        None => Current::of(identity, build),
    }
}

macro_rules! reloadable {
    ($(#[$doc:meta])* $name:ident, $config:ty, $build:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(Arc<Shared<$config>>);

        impl $name {
            /// Loads the identity for the first time. Blocks on the disk.
            ///
            /// # Errors
            /// [`IdentityError`], which names the file and its problem.
            pub fn load(files: IdentityFiles) -> Result<Self, IdentityError> {
                let current = watch::Sender::new(Current::of(Identity::load(&files)?, $build)?);
                Ok(Self(Arc::new(Shared { files, current })))
            }

            /// Returns the configuration for the next connection.
            #[must_use]
            pub fn current(&self) -> Arc<$config> {
                Arc::clone(&self.0.current.borrow().config)
            }

            /// Returns the status of the last successful load.
            #[must_use]
            pub fn status(&self) -> IdentityStatus {
                IdentityStatus::from(&self.0.current.borrow().identity)
            }

            /// Reads the files again; every clone uses the result for new connections. Blocks on
            /// the disk.
            ///
            /// # Errors
            /// [`IdentityError`], also for a certificate that has expired; the old identity stays
            /// in use.
            pub fn reload(&self) -> Result<IdentityStatus, IdentityError> {
                let fresh = load_unexpired(&self.0.files, $build)?;
                let status = IdentityStatus::from(&fresh.identity);
                self.0.current.send_replace(fresh);
                Ok(status)
            }
        }
    };
}

reloadable!(
    /// The identity for outgoing connections; clones share it.
    ClientTls,
    ClientConfig,
    Identity::client_config
);
reloadable!(
    /// The identity for incoming connections; clones share it.
    ServerTls,
    ServerConfig,
    Identity::server_config
);

impl ServerTls {
    /// Verifies a client's certificate chain by the CAs of the last load, at the current time.
    pub(crate) fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let current = Arc::clone(&self.0.current.borrow());
        current.identity.verify_client(chain)
    }

    /// Returns a receiver of the reloads from now on.
    pub(crate) fn reloads(&self) -> Reloads {
        Reloads(self.0.current.subscribe())
    }
}

/// Receives the reloads of a server identity.
pub(crate) struct Reloads(watch::Receiver<Arc<Current<ServerConfig>>>);

impl Reloads {
    /// Waits for a reload that was not received yet.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The identity was dropped: no reload can follow.
            std::future::pending::<()>().await;
        }
    }
}
