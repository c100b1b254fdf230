//! The configuration in effect: one `watch` from which every part takes its settings.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Config;
use crate::live::Live;

/// Tells a part of a new configuration.
type Apply = Box<dyn Fn(&Config) + Send>;

/// The configuration in effect.
pub(super) struct LiveConfig {
    current: watch::Sender<Arc<Config>>,
    followers: Vec<Apply>,
}

impl LiveConfig {
    pub(super) fn new(config: Config) -> Self {
        Self {
            current: watch::Sender::new(Arc::new(config)),
            followers: Vec::new(),
        }
    }

    /// The configuration now.
    pub(super) fn current(&self) -> Arc<Config> {
        Arc::clone(&self.current.borrow())
    }

    /// A view of what `settings` takes from the configuration in effect, for a part that reads its
    /// settings when it uses them.
    pub(super) fn view<T: 'static>(&self, settings: fn(&Config) -> T) -> Live<T> {
        let config = self.current.subscribe();
        Live::new(move || Arc::new(settings(&config.borrow())))
    }

    /// Has `apply` called with each new configuration, for a part that must be told.
    pub(super) fn follow(&mut self, apply: impl Fn(&Config) + Send + 'static) {
        self.followers.push(Box::new(apply));
    }

    /// Puts `config` into effect; every part has its settings when this returns.
    pub(super) fn publish(&self, config: Config) {
        self.current.send_replace(Arc::new(config));
        let config = self.current();
        self.followers.iter().for_each(|apply| apply(&config));
    }
}
