//! Current values of settings that a reload may change.

use std::fmt;
use std::sync::Arc;

/// A view of the current settings of one subsystem; clones share it.
pub(crate) struct Live<T>(Arc<dyn Fn() -> Arc<T> + Send + Sync>);

impl<T> Live<T> {
    /// Creates a view that calls `read` for the current settings; `read` must be cheap.
    pub(crate) fn new(read: impl Fn() -> Arc<T> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Creates a view of settings that never change.
    #[cfg(test)]
    pub(crate) fn fixed(settings: T) -> Self
    where
        T: Send + Sync + 'static,
    {
        let settings = Arc::new(settings);
        Self::new(move || Arc::clone(&settings))
    }

    /// Returns the current settings. Read them once per request, so that a reload does not split
    /// it.
    pub(crate) fn current(&self) -> Arc<T> {
        (self.0)()
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current().fmt(f)
    }
}
