//! Identities that change while the process runs.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig};

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
    loaded: Loaded,
}

#[derive(Debug)]
struct Slot<C> {
    files: IdentityFiles,
    current: ArcSwap<Current<C>>,
}

type Build<C> = fn(&Identity) -> Result<Arc<C>, IdentityError>;

impl<C> Current<C> {
    fn of(identity: &Identity, build: Build<C>) -> Result<Self, IdentityError> {
        Ok(Self {
            config: build(identity)?,
            loaded: Loaded::from(identity),
        })
    }
}

/// What is in use may still be good, so an expired certificate does not take its place.
fn load_again<C>(files: &IdentityFiles, build: Build<C>) -> Result<Current<C>, IdentityError> {
    let identity = Identity::load(files)?;
    match identity.expired_on() {
        Some(on) => Err(IdentityError::Expired {
            path: files.cert.clone(),
            on: on.to_owned(),
        }),
        None => Current::of(&identity, build),
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
                let current = ArcSwap::from_pointee(Current::of(&Identity::load(&files)?, $build)?);
                Ok(Self(Arc::new(Slot { files, current })))
            }

            /// The configuration for the next connection.
            #[must_use]
            pub fn current(&self) -> Arc<$config> {
                Arc::clone(&self.0.current.load().config)
            }

            /// What the last successful load found.
            #[must_use]
            pub fn loaded(&self) -> Loaded {
                self.0.current.load().loaded.clone()
            }

            /// Reads the files again; all clones see the result. Connections that are up keep what they began with.
            /// Blocks on the disk.
            ///
            /// # Errors
            /// [`IdentityError`], also for a certificate that has expired; the old identity stays in use.
            pub fn reload(&self) -> Result<Loaded, IdentityError> {
                let fresh = load_again(&self.0.files, $build)?;
                let loaded = fresh.loaded.clone();
                self.0.current.store(Arc::new(fresh));
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
