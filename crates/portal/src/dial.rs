//! From the portal's name to a TCP connection.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::settings::Target;

type Found = io::Result<Vec<SocketAddr>>;

/// Looks up the portal's addresses, one look-up at a time. A look-up cannot be broken off: with a name server that
/// hangs, one for each attempt would fill the threads for what blocks, and whatever else needs one would wait.
pub(crate) struct Lookup {
    resolve: Arc<dyn Fn() -> Found + Send + Sync>,
    /// The one that an earlier attempt did not wait for to its end.
    under_way: Option<JoinHandle<Found>>,
}

impl Lookup {
    pub(crate) fn new(target: &Target) -> Self {
        let (host, port) = (target.host.clone(), target.port);
        Self::by(move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect))
    }

    fn by(resolve: impl Fn() -> Found + Send + Sync + 'static) -> Self {
        Self {
            resolve: Arc::new(resolve),
            under_way: None,
        }
    }

    /// The addresses, as they are now or as they were found since the last attempt. May be dropped at any point.
    pub(crate) async fn addresses(&mut self) -> Found {
        let resolve = Arc::clone(&self.resolve);
        let running = self
            .under_way
            .get_or_insert_with(|| tokio::task::spawn_blocking(move || resolve()));
        let found = running.await;
        self.under_way = None;
        found.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// Connects to the first address that answers. Each has its share of the time until `by`, so that one which swallows
/// packets leaves the others a chance.
pub(crate) async fn dial<T, F>(
    addresses: &[SocketAddr],
    by: Instant,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut trouble = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = by.saturating_duration_since(Instant::now()) / untried;
        trouble = match timeout(share, connect(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no TCP connection within {share:?}"),
            ),
        };
    }
    Err(trouble)
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
    async fn a_look_up_that_hangs_is_waited_for_and_not_begun_again() {
        let (answer, answers) = channel();
        let (answers, begun) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&begun);
        let mut lookup = Lookup::by(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(vec![answers.lock().unwrap().recv().unwrap()])
        });
        for _ in 0..5 {
            assert!(timeout(SOON, lookup.addresses()).await.is_err());
        }
        answer.send(address(1)).unwrap();
        let found = timeout(BOUND, lookup.addresses()).await.unwrap().unwrap();
        assert_eq!((found, begun.load(Ordering::SeqCst)), (vec![address(1)], 1));
        answer.send(address(2)).unwrap();
        let found = timeout(BOUND, lookup.addresses()).await.unwrap().unwrap();
        assert_eq!(
            (found, begun.load(Ordering::SeqCst)),
            (vec![address(2)], 2),
            "the next attempt looks anew"
        );
    }

    #[tokio::test]
    async fn an_address_that_swallows_packets_leaves_the_next_one_a_chance() {
        let connect = |to: SocketAddr| async move {
            match to == address(3) {
                true => Ok(to),
                false if to == address(2) => Err(io::ErrorKind::ConnectionRefused.into()),
                false => std::future::pending().await,
            }
        };
        let addresses = [1, 2, 3].map(address);
        let dialled = dial(&addresses, Instant::now() + Duration::from_secs(2), connect).await;
        assert_eq!(dialled.unwrap(), address(3));
        let dialled = dial(&addresses[1..2], Instant::now() + BOUND, connect).await;
        assert_eq!(dialled.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let dialled = dial(&addresses[..1], Instant::now() + SOON, connect).await;
        assert_eq!(dialled.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let dialled = dial(&[], Instant::now() + BOUND, connect).await;
        assert!(dialled.is_err());
    }
}
