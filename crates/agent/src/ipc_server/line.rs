//! A connection of which the runtime hears only when it has to be waited for.
//!
//! A helper has sent its request by the time it is accepted, and takes its answer at once. So a login with a decision in
//! the cache is done without a wait, and needs neither a place among what the kernel watches for us nor a task.

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream as Early};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SocketFlags};
use tokio::io::Interest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Accepts a connection, if one waits.
pub(super) fn accept(listener: &UnixListener) -> io::Result<Line> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = rustix::net::accept_with(listener, flags)?;
    Ok(Line(State::Early(stream.into())))
}

/// Connections as they come.
#[derive(Debug)]
pub(super) struct Waiting {
    listener: UnixListener,
    /// The listener once more: the runtime watches it like any other socket.
    watched: UnixStream,
}

impl Waiting {
    pub(super) fn on(listener: &UnixListener) -> io::Result<Self> {
        let listener = listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let watched = UnixStream::from_std(OwnedFd::from(listener.try_clone()?).into())?;
        Ok(Self { listener, watched })
    }

    pub(super) async fn next(&self) -> io::Result<Line> {
        let accept = || accept(&self.listener);
        self.watched.async_io(Interest::READABLE, accept).await
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Line(State);

#[derive(Debug)]
enum State {
    /// Does not block, and nobody waits for it yet.
    Early(Early),
    /// The runtime watches it.
    Watched(UnixStream),
    /// It could not be watched.
    Lost,
}

impl Line {
    /// Who is on the other side, by the kernel's word.
    pub(super) fn peer(&self) -> io::Result<u32> {
        // Not rustix's: its credentials cannot hold the pid 0 that a peer outside our pid namespace has.
        let credentials = match &self.0 {
            State::Early(stream) => getsockopt(stream, PeerCredentials)?,
            State::Watched(stream) => getsockopt(stream, PeerCredentials)?,
            State::Lost => return Err(lost()),
        };
        Ok(credentials.uid())
    }

    /// Appends what comes next to `bytes`, as far as there is room in it; 0 is the end.
    pub(super) async fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match self.try_read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
        self.watched()?.read_buf(bytes).await
    }

    /// The same, without a wait: [`io::ErrorKind::WouldBlock`] when nothing has come yet.
    pub(super) fn try_read(&self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match &self.0 {
            State::Early(stream) => {
                Ok(rustix::net::recv(stream, spare_capacity(bytes), RecvFlags::DONTWAIT)?.0)
            }
            State::Watched(stream) => stream.try_read_buf(bytes),
            State::Lost => Err(lost()),
        }
    }

    /// Writes all of it, and ends our side.
    pub(super) async fn finish(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if let State::Early(stream) = &mut self.0 {
            match stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if bytes.is_empty() {
                return stream.shutdown(Shutdown::Write);
            }
        }
        let stream = self.watched()?;
        stream.write_all(bytes).await?;
        stream.shutdown().await
    }

    fn watched(&mut self) -> io::Result<&mut UnixStream> {
        self.0 = match std::mem::replace(&mut self.0, State::Lost) {
            State::Early(stream) => State::Watched(UnixStream::from_std(stream)?),
            other => other,
        };
        match &mut self.0 {
            State::Watched(stream) => Ok(stream),
            State::Early(_) | State::Lost => Err(lost()),
        }
    }
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the connection could not be watched")
}
