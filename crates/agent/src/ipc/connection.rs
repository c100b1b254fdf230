//! One accepted connection.

use std::io;
use std::os::unix::net::UnixListener;

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// A connection of a peer. Tries reads and writes before it waits for the runtime's readiness: a
/// request is usually there when the connection is accepted, and a response fits into the buffer.
#[derive(Debug)]
pub(super) struct Connection(UnixStream);

impl Connection {
    /// Wraps an accepted socket.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Accepts a connection from the backlog of a non-blocking listener.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the backlog is empty.
    pub(super) fn accept(listener: &UnixListener) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::accept_with(listener, flags)?;
        UnixStream::from_std(socket.into()).map(Self)
    }

    /// Returns the uid of the process that connected, as the kernel recorded it.
    pub(super) fn peer_uid(&self) -> io::Result<u32> {
        Ok(self.0.peer_cred()?.uid())
    }

    /// Reads the next bytes into the spare capacity of `bytes`; 0 means that the peer has closed.
    pub(super) async fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match self.try_read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
        self.0.read_buf(bytes).await
    }

    /// As [`Self::read`], without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when no bytes are available.
    pub(super) fn try_read(&self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        Ok(rustix::net::recv(&self.0, spare_capacity(bytes), RecvFlags::DONTWAIT)?.0)
    }

    /// Writes `bytes` and shuts down the write side.
    pub(super) async fn finish(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match rustix::net::send(&self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
        if !bytes.is_empty() {
            self.0.write_all(bytes).await?;
        }
        self.0.shutdown().await
    }
}
