//! The listening socket: inherited from systemd, or bound without ever replacing the socket of a
//! running agent or having wider permissions than configured.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::connection::Connection;
use super::ping::Ping;
use crate::clock;

/// Connections that the kernel queues until they are accepted; at most `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why the socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The path has no directory.
    #[error("{0:?} has no directory")]
    NoDirectory(PathBuf),
    /// The directory could not be created or read.
    #[error("could not create or read directory {0:?}")]
    Directory(PathBuf, #[source] io::Error),
    /// Other users could replace the socket.
    #[error(
        "directory {path:?} (owner {owner}, mode {mode:04o}) must belong to root or the agent's user and be writable by its owner only"
    )]
    UnsafeDirectory {
        /// The directory.
        path: PathBuf,
        /// Its owner's uid.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// Another process listens on the socket or holds its lock.
    #[error("another agent is running: it holds {0:?}")]
    Running(PathBuf),
    /// The path exists and is not a socket.
    #[error("{0:?} exists and is not a socket")]
    NotASocket(PathBuf),
    /// A system call failed.
    #[error("socket {path:?}: could not {operation}")]
    Failed {
        /// The socket.
        path: PathBuf,
        /// What failed, as a verb phrase.
        operation: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// systemd passed something other than one listening Unix socket.
    #[error("systemd passed {0}, expected one Unix stream socket")]
    Inherited(String),
}

/// A listening socket and, unless it is inherited, its file.
#[derive(Debug)]
pub(crate) struct IpcListener {
    listener: UnixListener,
    owned: Option<OwnedSocket>,
}

#[derive(Debug)]
struct OwnedSocket {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Held as long as the socket, so that two agents cannot both replace a stale one.
    _lock: File,
}

impl IpcListener {
    /// Takes the socket that systemd passed (`LISTEN_FDS`), if any. Changes the environment: call
    /// it before any thread is started.
    ///
    /// # Errors
    /// When systemd passed anything but one Unix stream socket.
    pub(crate) fn inherited() -> Result<Option<Self>, BindError> {
        let mut passed = listenfd::ListenFd::from_env();
        match passed.len() {
            0 => Ok(None),
            1 => {
                let listener = passed
                    .take_unix_listener(0)
                    .map_err(|err| BindError::Inherited(err.to_string()))?;
                Ok(listener.map(|listener| Self {
                    listener,
                    owned: None,
                }))
            }
            n => Err(BindError::Inherited(format!("{n} sockets"))),
        }
    }

    /// Binds a socket at `path` with exactly `mode`. Creates a missing directory with mode 0755,
    /// and replaces a stale socket.
    ///
    /// # Errors
    /// [`BindError`]; a socket that another process listens on is not changed.
    pub(crate) fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let directory = directory.ok_or_else(|| BindError::NoDirectory(path.to_owned()))?;
        ensure_directory(directory)?;
        let lock = lock(path)?;
        check_replaceable(path)?;

        let failed = |operation| move |error: Errno| failed(path, operation, error);
        // Bound under a temporary name: the rename replaces a stale socket in one step, with a
        // socket that listens already.
        let temporary = directory.join(".b");
        match rustix::fs::unlink(&temporary) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("remove its temporary file")(error)),
        }
        let fd = socket().map_err(failed("create it"))?;
        // Linux gives the file the mode of the socket, less the umask: it is never wider than
        // `mode`.
        let mode = Mode::from_bits_truncate(mode);
        rustix::fs::fchmod(&fd, mode).map_err(failed("set its mode"))?;
        let address = SocketAddrUnix::new(&temporary).map_err(failed("use its path as an address"))?;
        rustix::net::bind(&fd, &address).map_err(failed("bind it"))?;
        rustix::fs::chmod(&temporary, mode).map_err(failed("set its file's mode"))?;
        rustix::net::listen(&fd, BACKLOG).map_err(failed("listen on it"))?;
        let stat = rustix::fs::lstat(&temporary).map_err(failed("read its metadata"))?;
        rustix::fs::rename(&temporary, path).map_err(failed("rename its temporary file"))?;
        let owned = OwnedSocket {
            path: path.to_owned(),
            device: stat.st_dev,
            inode: stat.st_ino,
            _lock: lock,
        };
        Ok(Self {
            listener: UnixListener::from(fd),
            owned: Some(owned),
        })
    }

    /// Registers the socket with the runtime, which then reports when [`Self::accept`] has a
    /// connection. tokio's own listener would register every connection that it accepts.
    pub(super) fn readable(&self) -> io::Result<tokio::net::UnixStream> {
        let socket = self.listener.try_clone()?;
        socket.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(OwnedFd::from(socket).into())
    }

    /// Accepts a connection from the backlog.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it is empty.
    pub(super) fn accept(&self) -> io::Result<Connection> {
        Connection::accept(&self.listener)
    }

    /// Closes each connection without an answer, for `time`. Blocks.
    pub(crate) fn close_connections(&self, time: Duration) {
        let end = clock::now() + time;
        let left = || end.saturating_duration_since(clock::now());
        while !left().is_zero() {
            let timeout = Timespec::try_from(left()).unwrap_or_default();
            let mut ready = [PollFd::new(&self.listener, PollFlags::IN)];
            if rustix::event::poll(&mut ready, Some(&timeout)).is_ok_and(|ready| ready > 0)
                && let Err(error) = self.accept()
                && error.kind() != io::ErrorKind::ConnectionAborted
            {
                // Such as no free file descriptor.
                std::thread::sleep(left());
            }
        }
    }

    /// Whether systemd holds the socket: then its backlog outlives this agent.
    #[must_use]
    pub(crate) fn is_inherited(&self) -> bool {
        self.owned.is_none()
    }

    /// Creates pings to this socket; `None` when it has no path.
    pub(crate) fn ping(&self) -> Option<Ping> {
        let path = match &self.owned {
            // Its address is the temporary name that it was bound to.
            Some(owned) => owned.path.clone(),
            None => self.listener.local_addr().ok()?.as_pathname()?.to_owned(),
        };
        Some(Ping::new(path))
    }

    /// Removes the socket's file, so that no further peer connects, unless another process replaced
    /// it.
    pub(super) fn unlink(&self) {
        let Some(owned) = &self.owned else { return };
        let is_unchanged = rustix::fs::lstat(&owned.path)
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (owned.device, owned.inode));
        if is_unchanged && let Err(error) = rustix::fs::unlink(&owned.path) {
            tracing::warn!(path = %owned.path.display(), %error, "could not remove the IPC socket");
        }
    }
}

fn socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Creates the directory if it is missing, and checks that no other user can write to it.
fn ensure_directory(path: &Path) -> Result<(), BindError> {
    let failed = |error| BindError::Directory(path.to_owned(), error);
    create_directory(path).map_err(failed)?;
    let meta = path.metadata().map_err(failed)?;
    let is_trusted = [0, rustix::process::geteuid().as_raw()].contains(&meta.uid());
    if !meta.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    if !is_trusted || meta.mode() & 0o022 != 0 {
        return Err(BindError::UnsafeDirectory {
            path: path.to_owned(),
            owner: meta.uid(),
            mode: meta.mode() & 0o7777,
        });
    }
    Ok(())
}

/// Creates the directory and its missing parents with mode 0755 whatever the umask is: helpers that
/// are not root must be able to reach the socket.
fn create_directory(path: &Path) -> io::Result<()> {
    let create = || DirBuilder::new().mode(0o700).create(path);
    match (create(), path.parent()) {
        (Ok(()), _) => {}
        (Err(error), _) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            create_directory(parent)?;
            create()?;
        }
        (Err(error), _) => return Err(error),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let created = rustix::fs::open(path, flags, Mode::empty())?;
    Ok(rustix::fs::fchmod(&created, Mode::from_bits_truncate(0o755))?)
}

/// Locks the file beside `path` that only one agent can hold.
fn lock(path: &Path) -> Result<File, BindError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(name)
        .map_err(|error| failed(path, "open its lock file", error))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(BindError::Running(path.to_owned())),
        Err(error) => Err(failed(path, "lock its lock file", error)),
    }
}

/// Checks that nothing exists at `path`, or a socket that no process listens on.
fn check_replaceable(path: &Path) -> Result<(), BindError> {
    match path.symlink_metadata() {
        Ok(meta) if meta.file_type().is_socket() => {}
        Ok(_) => return Err(BindError::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::Directory(path.to_owned(), error)),
    }
    let connected = socket().and_then(|fd| rustix::net::connect(&fd, &SocketAddrUnix::new(path)?));
    match connected {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // Another process listens: it accepts, or its backlog is full.
        Ok(()) | Err(Errno::WOULDBLOCK) => Err(BindError::Running(path.to_owned())),
        Err(error) => Err(failed(path, "check whether another process listens on it", error)),
    }
}

fn failed(path: &Path, operation: &'static str, error: impl Into<io::Error>) -> BindError {
    BindError::Failed {
        path: path.to_owned(),
        operation,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests;
