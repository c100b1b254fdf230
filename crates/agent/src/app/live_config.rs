//! The configuration in effect: one `watch` from which every part takes its settings.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Config;
use crate::live::Live;

/// The configuration in effect.
pub(super) struct LiveConfig(watch::Sender<Arc<Config>>);

impl LiveConfig {
    pub(super) fn new(config: Config) -> Self {
        Self(watch::Sender::new(Arc::new(config)))
    }

    /// The configuration now.
    pub(super) fn current(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }

    /// A view of what `settings` takes from the configuration in effect, for a part that reads its
    /// settings when it uses them.
    pub(super) fn view<T: 'static>(&self, settings: fn(&Config) -> T) -> Live<T> {
        let config = self.0.subscribe();
        Live::new(move || Arc::new(settings(&config.borrow())))
    }

    /// Calls `apply` with each new configuration, for a part that must be told. Ends with `self`.
    pub(super) fn follow<F: Fn(&Config)>(&self, apply: F) -> impl Future<Output = ()> + use<F> {
        let mut config = self.0.subscribe();
        async move {
            while config.changed().await.is_ok() {
                apply(&config.borrow_and_update());
            }
        }
    }

    /// Puts `config` into effect.
    pub(super) fn publish(&self, config: Config) {
        self.0.send_replace(Arc::new(config));
    }
}
