//! Name resolution and TCP connect.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::clock;
use crate::settings::Target;

type Resolved = io::Result<Vec<SocketAddr>>;

/// Resolves the portal's name, one lookup at a time. A lookup cannot be cancelled: with a hung name
/// server, one per attempt would exhaust the pool of blocking threads.
pub(crate) struct Resolver {
    resolve: Arc<dyn Fn() -> Resolved + Send + Sync>,
    /// A lookup that an earlier attempt abandoned.
    running: Option<JoinHandle<Resolved>>,
}

impl Resolver {
    pub(crate) fn new(target: &Target) -> Self {
        let (host, port) = (target.host.clone(), target.port);
        Self::with(move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect))
    }

    fn with(resolve: impl Fn() -> Resolved + Send + Sync + 'static) -> Self {
        Self {
            resolve: Arc::new(resolve),
            running: None,
        }
    }

    /// Returns the addresses; joins an abandoned lookup that is still running. Cancellation safe.
    pub(crate) async fn addresses(&mut self) -> Resolved {
        let resolve = Arc::clone(&self.resolve);
        let running = self
            .running
            .get_or_insert_with(|| tokio::task::spawn_blocking(move || resolve()));
        let resolved = running.await;
        self.running = None;
        resolved.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// Connects to the first address that accepts. Each gets an equal share of the time until
/// `deadline`, so that one that drops packets leaves time for the others.
pub(crate) async fn dial<T, F>(
    addresses: &[SocketAddr],
    deadline: Instant,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(clock::now()) / untried;
        last_error = match timeout(share, connect(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no TCP connection within {share:?}"),
            ),
        };
    }
    Err(last_error)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const BOUND: Duration = Duration::from_secs(20);

    fn address(host: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], 443))
    }

    #[tokio::test]
    async fn hanging_lookup_is_awaited_and_never_started_twice() {
        let (sender, answers) = channel();
        let (answers, lookups) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&lookups);
        let mut resolver = Resolver::with(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(vec![answers.lock().unwrap().recv().unwrap()])
        });
        for _ in 0..5 {
            assert!(timeout(SOON, resolver.addresses()).await.is_err());
        }
        sender.send(address(1)).unwrap();
        let resolved = timeout(BOUND, resolver.addresses()).await.unwrap().unwrap();
        assert_eq!((resolved, lookups.load(Ordering::SeqCst)), (vec![address(1)], 1));
        sender.send(address(2)).unwrap();
        let resolved = timeout(BOUND, resolver.addresses()).await.unwrap().unwrap();
        assert_eq!(
            (resolved, lookups.load(Ordering::SeqCst)),
            (vec![address(2)], 2),
            "the next attempt starts a new lookup"
        );
    }

    #[tokio::test]
    async fn address_that_drops_packets_leaves_time_for_the_next() {
        let connect = |to: SocketAddr| async move {
            match to == address(3) {
                true => Ok(to),
                false if to == address(2) => Err(io::ErrorKind::ConnectionRefused.into()),
                false => std::future::pending().await,
            }
        };
        let addresses = [1, 2, 3].map(address);
        let dialled = dial(&addresses, clock::now() + Duration::from_secs(2), connect).await;
        assert_eq!(dialled.unwrap(), address(3));
        let dialled = dial(&addresses[1..2], clock::now() + BOUND, connect).await;
        assert_eq!(dialled.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let dialled = dial(&addresses[..1], clock::now() + SOON, connect).await;
        assert_eq!(dialled.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let dialled = dial(&[], clock::now() + BOUND, connect).await;
        assert!(dialled.is_err());
    }
}
