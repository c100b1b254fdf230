//! A TCP proxy that can stall, refuse and close connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Forward,
    /// Connections stay open and forward nothing: a network that drops packets.
    Stall,
    /// Closes connections, and new ones at once.
    Refuse,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) async fn start(upstream: SocketAddr, mode: Mode, tracker: &TaskTracker) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, watched) = watch::channel(mode);
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, tasks) = (Arc::clone(&connections), tracker.clone());
        tracker.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                if *watched.borrow() == Mode::Refuse {
                    continue;
                }
                let server = TcpStream::connect(upstream).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tasks.spawn(pump(from_client, to_server, watched.clone()));
                tasks.spawn(pump(from_server, to_client, watched.clone()));
            }
        });
        Self {
            address,
            mode,
            connections,
        }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Number of accepted connections.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut bytes = [0; 16 << 10];
    loop {
        let read = tokio::select! {
            biased;
            _ = mode.wait_for(|mode| *mode == Mode::Refuse) => return,
            read = from.read(&mut bytes) => read.unwrap_or(0),
        };
        let open = mode
            .wait_for(|mode| *mode != Mode::Stall)
            .await
            .is_ok_and(|mode| *mode == Mode::Forward);
        if read == 0 || !open || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
