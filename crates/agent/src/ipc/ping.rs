//! Asks the IPC server whether it serves, as a helper would.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The longest response that is read, in bytes.
const MAX_RESPONSE: u64 = 4096;

/// Sends requests without an effect to the agent's own socket.
#[derive(Debug, Clone)]
pub(crate) struct Ping {
    path: PathBuf,
    request: Vec<u8>,
}

/// What a ping shows.
#[derive(Debug)]
pub(crate) enum Pong {
    /// The login thread serves.
    Served,
    /// It accepts no connection, or answers none, in time.
    Silent,
    /// There is no socket at the path, or nobody listens on it.
    Unreachable(io::Error),
}

impl Ping {
    /// Creates pings to the socket at `path`.
    pub(super) fn new(path: PathBuf) -> Self {
        let request = ipc::Request {
            reason: "ping".to_owned(),
            ..ipc::Request::default()
        };
        // A request as short as this always fits a frame.
        let request = request.to_frame().unwrap_or_default();
        Self { path, request }
    }

    /// Sends one; waits at most `limit` for a response.
    pub(crate) async fn send(&self, limit: Duration) -> Pong {
        match timeout(limit, self.exchange()).await {
            Ok(Ok(1..)) => Pong::Served,
            Ok(Err(error)) if !is_full(&error) => Pong::Unreachable(error),
            Ok(_) | Err(_) => Pong::Silent,
        }
    }

    /// Returns the number of bytes of the response. Sends before the socket waits in the runtime:
    /// a connection whose request is there costs an idle process fewer wake-ups.
    async fn exchange(&self) -> io::Result<usize> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&self.path)?)?;
        let sent = rustix::net::send(&socket, &self.request, SendFlags::NOSIGNAL)?;
        if sent < self.request.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let stream = UnixStream::from_std(socket.into())?;
        let mut response = Vec::new();
        stream.take(MAX_RESPONSE).read_to_end(&mut response).await
    }
}

/// Whether the backlog of the socket is full.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
