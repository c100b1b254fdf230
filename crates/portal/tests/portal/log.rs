//! Captures the client's log.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::subscriber::DefaultGuard;

use crate::setup::BOUND;

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Collects what this thread logs from INFO up.
    pub(crate) fn capture() -> (Self, DefaultGuard) {
        // tracing caches per call site whether any subscriber is interested, and a thread without
        // one can disable a call site for all threads: a global subscriber prevents that.
        let _ = tracing::subscriber::set_global_default(
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::INFO)
                .with_writer(io::sink)
                .finish(),
        );
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap())
            .matches(text)
            .count()
    }

    pub(crate) async fn wait_for(&self, text: &str) {
        let logged = async {
            while self.count(text) == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(BOUND, logged).await.is_err() {
            panic!(
                "{text:?} was not logged, only: {}",
                String::from_utf8_lossy(&self.0.lock().unwrap())
            );
        }
    }
}
