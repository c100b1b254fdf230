//! One accepted connection.

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream as StdUnixStream};

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{UnixCredentials, getsockopt};
use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SocketFlags};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// A connection of a peer. It is registered with the runtime only when it has to wait: a request is
/// usually there when the connection is accepted, and a response fits into the buffer. See
/// `docs/decisions/0010-login-thread.md`.
#[derive(Debug)]
pub(super) enum Connection {
    /// Not registered; never blocks.
    Unregistered(StdUnixStream),
    /// Registered with the runtime.
    Registered(UnixStream),
    /// The registration failed.
    Failed,
}

impl Connection {
    /// Accepts a connection from the backlog of a listener that does not block.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the backlog is empty.
    pub(super) fn accept(listener: &UnixListener) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::accept_with(listener, flags)?;
        Ok(Self::Unregistered(socket.into()))
    }

    /// The process that connected and its user, as the kernel recorded them.
    pub(super) fn peer(&self) -> io::Result<UnixCredentials> {
        // Not rustix's: its credentials cannot hold the pid 0 of a peer outside our pid namespace.
        match self {
            Self::Unregistered(stream) => Ok(getsockopt(stream, PeerCredentials)?),
            Self::Registered(stream) => Ok(getsockopt(stream, PeerCredentials)?),
            Self::Failed => Err(failed()),
        }
    }

    /// Appends the next bytes to the spare capacity of `bytes`; 0 means that the peer has closed.
    pub(super) async fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match self.try_read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
        self.registered()?.read_buf(bytes).await
    }

    /// As [`Self::read`], without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing has come.
    pub(super) fn try_read(&self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Unregistered(stream) => {
                Ok(rustix::net::recv(stream, spare_capacity(bytes), RecvFlags::DONTWAIT)?.0)
            }
            Self::Registered(stream) => stream.try_read_buf(bytes),
            Self::Failed => Err(failed()),
        }
    }

    /// Writes `bytes` and shuts our side down.
    pub(super) async fn finish(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if let Self::Unregistered(stream) = self {
            match stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if bytes.is_empty() {
                return stream.shutdown(Shutdown::Write);
            }
        }
        let stream = self.registered()?;
        stream.write_all(bytes).await?;
        stream.shutdown().await
    }

    /// Registers the connection with the runtime, if it is not yet.
    fn registered(&mut self) -> io::Result<&mut UnixStream> {
        *self = match std::mem::replace(self, Self::Failed) {
            Self::Unregistered(stream) => Self::Registered(UnixStream::from_std(stream)?),
            other => other,
        };
        match self {
            Self::Registered(stream) => Ok(stream),
            Self::Unregistered(_) | Self::Failed => Err(failed()),
        }
    }
}

fn failed() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotConnected,
        "the connection could not be registered",
    )
}
