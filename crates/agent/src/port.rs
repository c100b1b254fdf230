//! A TCP port that may not be to be had yet. Logins do not need it, so they do not wait for it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long the wait is until the port is tried again.
const AGAIN_AFTER: Duration = if cfg!(test) {
    Duration::from_millis(10)
} else {
    Duration::from_secs(5)
};

/// A port that is bound, or that will be as soon as that can be done.
#[derive(Debug)]
pub struct Port {
    key: &'static str,
    address: SocketAddr,
    listener: Option<TcpListener>,
}

impl Port {
    /// Tries to take `address`, which the configuration gives under `key`. Where that fails the log says so.
    pub(crate) async fn take(key: &'static str, address: SocketAddr) -> Self {
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => Some(listener),
            Err(error) => {
                tracing::error!(key, %address, %error, again_after = ?AGAIN_AFTER, "a port cannot be taken: logins go on without it");
                None
            }
        };
        Self {
            key,
            address,
            listener,
        }
    }

    /// The address that it is bound to; `None` while it is not.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
    }

    /// The port, once it has been taken; `None` when `stop` came first.
    pub(crate) async fn taken(self, stop: &CancellationToken) -> Option<TcpListener> {
        if self.listener.is_some() {
            return self.listener;
        }
        loop {
            stop.run_until_cancelled(sleep(AGAIN_AFTER)).await?;
            if let Ok(listener) = TcpListener::bind(self.address).await {
                tracing::info!(key = self.key, address = %self.address, "the port is taken");
                return Some(listener);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_another_program_has_is_taken_when_it_is_free() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap();
        let port = Port::take("grpc.listen", address).await;
        assert_eq!(port.local_addr(), None);
        let stop = CancellationToken::new();
        let (taken, ()) = tokio::join!(port.taken(&stop), async { drop(other) });
        assert_eq!(taken.unwrap().local_addr().unwrap(), address);
    }
}
