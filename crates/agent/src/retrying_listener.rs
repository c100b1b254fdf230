//! A TCP listener whose address may be in use at first. No login needs it, so no start waits for
//! it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Pause before an address is tried again.
const RETRY_INTERVAL: Duration = if cfg!(test) {
    Duration::from_millis(10)
} else {
    Duration::from_secs(5)
};

/// A listener that is bound, or will be as soon as that is possible.
#[derive(Debug)]
pub(crate) struct RetryingListener {
    key: &'static str,
    address: SocketAddr,
    listener: Option<TcpListener>,
}

impl RetryingListener {
    /// Tries to bind `address`, the value of the config key `key`. Logs a failure; [`Self::wait`]
    /// tries again.
    pub(crate) async fn bind(key: &'static str, address: SocketAddr) -> Self {
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => Some(listener),
            Err(error) => {
                tracing::error!(key, %address, %error, retry_interval = ?RETRY_INTERVAL, "could not bind a TCP address: logins are not affected");
                None
            }
        };
        Self {
            key,
            address,
            listener,
        }
    }

    /// Takes over a listener that is bound.
    #[cfg(test)]
    pub(crate) fn bound(listener: std::net::TcpListener) -> Self {
        Self {
            key: "test",
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            listener: Some(TcpListener::from_std(listener).unwrap()),
        }
    }

    /// Returns the bound address; `None` until it is bound.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
    }

    /// Waits until the address is bound; returns `None` when `stop` is cancelled first. Registers
    /// the listener with the current runtime: the login thread, which bound it, may stall.
    pub(crate) async fn wait(self, stop: &CancellationToken) -> Option<TcpListener> {
        let bound = self.listener.map(TcpListener::into_std);
        if let Some(Ok(listener)) = bound.map(|bound| bound.and_then(TcpListener::from_std)) {
            return Some(listener);
        }
        loop {
            stop.run_until_cancelled(sleep(RETRY_INTERVAL)).await?;
            if let Ok(listener) = TcpListener::bind(self.address).await {
                tracing::info!(key = self.key, address = %self.address, "TCP address bound");
                return Some(listener);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_in_use_is_bound_once_it_is_free() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap();
        let listener = RetryingListener::bind("grpc.listen", address).await;
        assert_eq!(listener.local_addr(), None);
        let stop = CancellationToken::new();
        let (bound, ()) = tokio::join!(listener.wait(&stop), async { drop(other) });
        assert_eq!(bound.unwrap().local_addr().unwrap(), address);
    }
}
