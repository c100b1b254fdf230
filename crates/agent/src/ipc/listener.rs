//! The listening socket: inherited from systemd, or bound so that at no moment another process owns it
//! or its permissions are wider than configured.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::connection::Connection;

/// Connections that the kernel queues until they are accepted; at most `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why the socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The path has no directory.
    #[error("{0:?} names no directory")]
    NoDirectory(PathBuf),
    /// The directory is missing and cannot be created, or cannot be read.
    #[error("directory {0:?} cannot be created or read")]
    Directory(PathBuf, #[source] io::Error),
    /// Other users could replace the socket.
    #[error(
        "directory {path:?} (owner {owner}, mode {mode:04o}) can be written by others than its owner or is not ours"
    )]
    DirectoryOfOthers {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// Another process holds the socket.
    #[error("another agent is running: it holds {0:?}")]
    Running(PathBuf),
    /// There is something else in the socket's place.
    #[error("{0:?} is there and is not a socket")]
    NotASocket(PathBuf),
    /// A call failed.
    #[error("socket {path:?}: {what}")]
    Failed {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// systemd passed something that is not one listening Unix socket.
    #[error("systemd passed {0}, expected one Unix stream socket")]
    Inherited(String),
}

/// A listening socket, and what is ours on the disk because of it.
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
    /// Held as long as the socket: two agents cannot both find it stale and both replace it.
    _lock: File,
}

impl IpcListener {
    /// The socket that systemd passed (`LISTEN_FDS`), if it passed any. Changes the environment: call it before any thread
    /// is started.
    ///
    /// # Errors
    /// When what it passed is not exactly one Unix stream socket.
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

    /// Makes the socket at `path` with exactly `mode`. A missing directory is made (0755). A socket that is there is
    /// replaced when nobody answers on it.
    ///
    /// # Errors
    /// [`BindError`]; nothing is changed when another process answers.
    pub(crate) fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let directory = directory.ok_or_else(|| BindError::NoDirectory(path.to_owned()))?;
        own_directory(directory)?;
        let lock = take_lock(path)?;
        nobody_answers(path)?;

        let failed = |what| {
            let path = path.to_owned();
            move |source: Errno| BindError::Failed {
                path,
                what,
                source: source.into(),
            }
        };
        // Under another name first: the socket appears in its place complete, and takes the stale one's place at once.
        let aside = directory.join(".b");
        match rustix::fs::unlink(&aside) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(err) => return Err(failed("a left-over could not be removed")(err)),
        }
        let fd = socket().map_err(failed("could not be made"))?;
        // Linux gives the file the mode of the socket, less the umask: it is never open wider than asked for.
        rustix::fs::fchmod(&fd, Mode::from_bits_truncate(mode))
            .map_err(failed("could not be closed to others"))?;
        let address = SocketAddrUnix::new(&aside).map_err(failed("has too long a path"))?;
        rustix::net::bind(&fd, &address).map_err(failed("could not be bound"))?;
        rustix::fs::chmod(&aside, Mode::from_bits_truncate(mode))
            .map_err(failed("could not get its mode"))?;
        rustix::net::listen(&fd, BACKLOG).map_err(failed("cannot listen"))?;
        let stat = rustix::fs::lstat(&aside).map_err(failed("cannot be looked at"))?;
        rustix::fs::rename(&aside, path).map_err(failed("could not be put in its place"))?;
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

    /// A second handle of the socket, for the runtime.
    pub(super) fn try_clone(&self) -> io::Result<UnixListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Accepts a connection from the backlog.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it is empty.
    pub(super) fn accept(&self) -> io::Result<Connection> {
        Connection::accept(&self.listener)
    }

    /// Whether systemd holds the socket: then connections wait for the next agent when this one stops.
    #[must_use]
    pub(crate) fn is_inherited(&self) -> bool {
        self.owned.is_none()
    }

    /// Takes the socket away, so that nobody new connects, if it is still the one that we made.
    pub(super) fn unlink(&self) {
        let Some(owned) = &self.owned else { return };
        let still_ours = rustix::fs::lstat(&owned.path)
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (owned.device, owned.inode));
        if still_ours && let Err(err) = rustix::fs::unlink(&owned.path) {
            tracing::warn!(path = %owned.path.display(), error = %err, "could not remove the IPC socket");
        }
    }
}

fn socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Makes the directory if it is missing and checks that nobody else could change what is in it.
fn own_directory(path: &Path) -> Result<(), BindError> {
    let failed = |err| BindError::Directory(path.to_owned(), err);
    make_directory(path).map_err(failed)?;
    let meta = path.metadata().map_err(failed)?;
    let ours = [0, rustix::process::geteuid().as_raw()].contains(&meta.uid());
    if !meta.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    if !ours || meta.mode() & 0o022 != 0 {
        let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
        return Err(BindError::DirectoryOfOthers {
            path: path.to_owned(),
            owner,
            mode,
        });
    }
    Ok(())
}

/// Makes the directory, and those above it that are missing, with the mode 0755 whatever the umask is: helpers that are
/// not root have to get through.
fn make_directory(path: &Path) -> io::Result<()> {
    let make = || DirBuilder::new().mode(0o700).create(path);
    match (make(), path.parent()) {
        (Ok(()), _) => {}
        (Err(error), _) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(above)?;
            make()?;
        }
        (Err(error), _) => return Err(error),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::open(path, flags, Mode::empty())?;
    Ok(rustix::fs::fchmod(&made, Mode::from_bits_truncate(0o755))?)
}

fn take_lock(path: &Path) -> Result<File, BindError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |what| {
        let path = path.to_owned();
        move |source| BindError::Failed { path, what, source }
    };
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(name);
    let lock = lock.map_err(failed("its lock file could not be made"))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(BindError::Running(path.to_owned())),
        Err(err) => Err(failed("its lock could not be taken")(err.into())),
    }
}

/// Checks that there is nothing at `path`, or a socket that nobody listens on.
fn nobody_answers(path: &Path) -> Result<(), BindError> {
    match path.symlink_metadata() {
        Ok(meta) if meta.file_type().is_socket() => {}
        Ok(_) => return Err(BindError::NotASocket(path.to_owned())),
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(BindError::Directory(path.to_owned(), err)),
    }
    let attempt = socket().and_then(|fd| rustix::net::connect(&fd, &SocketAddrUnix::new(path)?));
    match attempt {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // It listens: it took the connection, or its queue is full.
        Ok(()) | Err(Errno::WOULDBLOCK) => Err(BindError::Running(path.to_owned())),
        Err(err) => {
            let what = "is there and cannot be tried";
            Err(BindError::Failed {
                path: path.to_owned(),
                what,
                source: err.into(),
            })
        }
    }
}

#[cfg(test)]
mod tests;
