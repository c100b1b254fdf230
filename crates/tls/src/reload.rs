//! Identities that change while the process runs.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;

use crate::{Identity, IdentityError, IdentityFiles};

/// What a load found, for the log and for a metric of the expiry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// When the first certificate of our chain expires.
    pub expires: SystemTime,
    /// What an operator should look at although the identity works; one line each.
    pub warnings: Vec<String>,
}

impl From<&Identity> for Loaded {
    fn from(identity: &Identity) -> Self {
        Self {
            expires: identity.expires(),
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
struct Slot<C> {
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

/// What is in use may still be good, so an expired certificate does not take its place.
fn load_again<C>(files: &IdentityFiles, build: Build<C>) -> Result<Arc<Current<C>>, IdentityError> {
    let identity = Identity::load(files)?;
    match identity.expired_on() {
        Some(on) => Err(IdentityError::Expired {
            path: files.cert.clone(),
            on: on.to_owned(),
        }),
        None => Current::of(identity, build),
    }
}

macro_rules! reloadable {
    ($(#[$doc:meta])* $name:ident, $config:ty, $build:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(Arc<Slot<$config>>);

        impl $name {
            /// Loads the identity for the first time. Blocks on the disk.
            ///
            /// # Errors
            /// [`IdentityError`] names the file and what is wrong with it.
            pub fn load(files: IdentityFiles) -> Result<Self, IdentityError> {
                let current = watch::Sender::new(Current::of(Identity::load(&files)?, $build)?);
                Ok(Self(Arc::new(Slot { files, current })))
            }

            /// The configuration for the next connection.
            #[must_use]
            pub fn current(&self) -> Arc<$config> {
                Arc::clone(&self.0.current.borrow().config)
            }

            /// What the last successful load found.
            #[must_use]
            pub fn loaded(&self) -> Loaded {
                Loaded::from(&self.0.current.borrow().identity)
            }

            /// Reads the files again; all clones see the result, and new connections begin with it. Blocks on the disk.
            ///
            /// # Errors
            /// [`IdentityError`], also for a certificate that has expired; the old identity stays in use.
            pub fn reload(&self) -> Result<Loaded, IdentityError> {
                let fresh = load_again(&self.0.files, $build)?;
                let loaded = Loaded::from(&fresh.identity);
                self.0.current.send_replace(fresh);
                Ok(loaded)
            }
        }
    };
}

reloadable!(
    /// The identity that we dial with; clones share it.
    ClientTls,
    ClientConfig,
    Identity::client_config
);
reloadable!(
    /// The identity that we serve with; clones share it.
    ServerTls,
    ServerConfig,
    Identity::server_config
);

impl ServerTls {
    /// Whether a client with this certificate chain would be let in now: by the CAs of the last load, at this time.
    pub(crate) fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let current = Arc::clone(&self.0.current.borrow());
        current.identity.verify_client(chain)
    }

    /// Hears of the next reloads.
    pub(crate) fn reloads(&self) -> Reloads {
        Reloads(self.0.current.subscribe())
    }
}

/// The reloads of an identity that we serve with.
pub(crate) struct Reloads(watch::Receiver<Arc<Current<ServerConfig>>>);

impl Reloads {
    /// Waits for one that has not been waited for.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The identity is gone: nobody will load it again.
            std::future::pending::<()>().await;
        }
    }
}
