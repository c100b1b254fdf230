//! The client: one connection per call, the request in one write, one timeout for the whole call.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use rustix::io::retry_on_intr;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use crate::clock;
use crate::command::Command;
use crate::cookie::Cookie;
use crate::decode::{decode_bool, decode_cookies, decode_list, decode_status};
use crate::error::{ControlError, DecodeError};
use crate::frame::{check_number, encode_request, frame_end};
use crate::safe_id::SafeId;
use crate::session::Session;
use crate::status::Status;
use crate::wire;

/// Buffer space reserved for each read, in bytes: memory grows with what arrives, not with what the
/// header announces.
const READ_CHUNK: usize = 16 << 10;

/// A name that no user can have: ocserv's limit is 63 bytes.
const IMPOSSIBLE_USERNAME: [u8; 200] = [b'-'; 200];

/// A client of one ocserv's control socket (`occtl-socket-file`). ocserv answers only uid 0,
/// whatever the file's mode.
///
/// Each call opens its own connection; calls may run concurrently. ocserv's main process answers
/// them one after another and blocks on a slow reader of a long reply: never run this on a runtime
/// that other work blocks.
///
/// A call that is dropped or times out has sent its whole request or none of it, never a part for
/// whose rest ocserv would wait. ocserv may still carry it out.
#[derive(Clone)]
pub struct ControlSocket {
    path: PathBuf,
    timeout: Duration,
    observer: Option<Observer>,
}

/// Called with each request's command, error and duration before the caller gets the result, so it
/// must be quick. Not called for a request that is dropped.
pub type Observer = Arc<dyn Fn(Command, Option<&ControlError>, Duration) + Send + Sync>;

impl fmt::Debug for ControlSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlSocket")
            .field("path", &self.path)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl ControlSocket {
    /// Creates a client of the socket at `path`, usually `/run/occtl.socket`; `timeout` bounds each
    /// request as a whole. Opens nothing.
    #[must_use]
    pub const fn new(path: PathBuf, timeout: Duration) -> Self {
        Self {
            path,
            timeout,
            observer: None,
        }
    }

    /// Returns the client with `observer` called for each request.
    #[must_use]
    pub fn with_observer(self, observer: Observer) -> Self {
        Self {
            observer: Some(observer),
            ..self
        }
    }

    /// Returns the path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the server status.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Invalid` and `Unsupported`.
    pub async fn status(&self) -> Result<Status, ControlError> {
        self.request(Command::Status, &[], decode_status).await
    }

    /// Lists all connections, newest first, including those that have not logged in.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Invalid` and `Unsupported`.
    pub async fn list(&self) -> Result<Vec<Session>, ControlError> {
        self.request(Command::List, &[], decode_list).await
    }

    /// Lists the connections of the user with exactly this name, on all virtual hosts; empty for an
    /// unknown user.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Unsupported`. `Invalid`: an empty name, a NUL in it, or over
    /// 250 bytes.
    pub async fn user(&self, name: &str) -> Result<Vec<Session>, ControlError> {
        self.request(Command::User, &username(name)?, decode_list).await
    }

    /// Returns the connection with this ID.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Unsupported`. `Invalid`: an ID that is not positive.
    pub async fn id(&self, id: i32) -> Result<Option<Session>, ControlError> {
        let sessions = self.request(Command::Id, &session_id(id)?, decode_list).await?;
        Ok(sessions.into_iter().find(|session| session.id == id))
    }

    /// Disconnects all connections of the user with exactly this name, on all virtual hosts, and
    /// invalidates the cookies of these logins. A login without a connection stays; see
    /// [`terminate_session`](Self::terminate_session).
    ///
    /// Returns `false` when there was no connection. After `true` they stay listed as connected
    /// until they have ended.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Unsupported`. `Invalid`: an empty name, a NUL in it, or over
    /// 250 bytes.
    pub async fn disconnect_user(&self, name: &str) -> Result<bool, ControlError> {
        self.request_action(Command::DisconnectUser, &username(name)?)
            .await
    }

    /// Disconnects the connection with this ID and invalidates its login's cookie.
    ///
    /// Returns `false` when there was no such connection. After `true` it stays listed as connected
    /// until it has ended, and a second call returns `true` as well.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Unsupported`. `Invalid`: an ID that is not positive.
    pub async fn disconnect_id(&self, id: i32) -> Result<bool, ControlError> {
        self.request_action(Command::DisconnectId, &session_id(id)?).await
    }

    /// Lists all cookies, with or without a connection; failed logins are listed for a while.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Invalid` and `Unsupported`.
    pub async fn cookies(&self) -> Result<Vec<Cookie>, ControlError> {
        self.request(Command::ListCookies, &[], decode_cookies).await
    }

    /// Invalidates the cookie of a login and disconnects its connection, if any. Returns `false`
    /// for an unknown login. Requires ocserv 1.4.2.
    ///
    /// A connection that ends this way reports zero bytes to its disconnect-script. To keep the
    /// byte counts, use [`disconnect_id`](Self::disconnect_id) first and this for logins without a
    /// connection.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Invalid`. An older ocserv closes the connection without a
    /// reply, and so does one that refuses this process. To distinguish them, `status` is requested
    /// on the same socket: the error is `Unsupported` if that succeeds, else `Refused`. (An ocserv
    /// that is replaced between the two is the one case in which `Unsupported` may be wrong.) The
    /// call takes up to two timeouts then.
    pub async fn terminate_session(&self, safe_id: &SafeId) -> Result<bool, ControlError> {
        let body = wire::SafeIdRequest {
            safe_id: safe_id.as_str().into(),
        };
        let result = self
            .request_action(Command::TerminateSession, &body.encode_to_vec())
            .await;
        self.detect_unsupported(result).await
    }

    /// Returns whether this ocserv supports the `terminate` requests, as 1.4.2 and newer do.
    ///
    /// Requests to terminate a user whose name is longer than ocserv allows, so it ends no session.
    /// An ocserv that does not know the request logs an error: ask once per start of ocserv
    /// ([`Status::main_pid`], [`Status::started_at`]).
    ///
    /// # Errors
    /// All of [`ControlError`] but `Invalid` and `Unsupported`; the answer is unknown then.
    pub async fn supports_terminate(&self) -> Result<bool, ControlError> {
        let body = wire::UsernameRequest {
            username: IMPOSSIBLE_USERNAME.to_vec(),
        };
        let result = self
            .request_action(Command::TerminateUser, &body.encode_to_vec())
            .await;
        match self.detect_unsupported(result).await {
            Ok(_) => Ok(true),
            Err(ControlError::Unsupported { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Turns `Refused` into `Unsupported` if ocserv answers another request of this process.
    async fn detect_unsupported(&self, result: Result<bool, ControlError>) -> Result<bool, ControlError> {
        match result {
            Err(ControlError::Refused { command, .. }) if self.status().await.is_ok() => {
                Err(ControlError::Unsupported { command })
            }
            result => result,
        }
    }

    async fn request_action(&self, command: Command, body: &[u8]) -> Result<bool, ControlError> {
        self.request(command, body, |reply| decode_bool(reply, command))
            .await
    }

    async fn request<T>(
        &self,
        command: Command,
        body: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, ControlError> {
        let request = encode_request(command, body)?;
        let start = clock::now();
        let result = self.send(command, &request, decode).await;
        if let Some(observer) = &self.observer {
            observer(
                command,
                result.as_ref().err(),
                clock::now().saturating_duration_since(start),
            );
        }
        result
    }

    async fn send<T>(
        &self,
        command: Command,
        request: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, ControlError> {
        let reply = tokio::time::timeout(self.timeout, self.exchange(command, request))
            .await
            .map_err(|_| ControlError::Timeout {
                command,
                limit: self.timeout,
            })??;
        decode(&reply).map_err(|error| ControlError::undecodable(command, error))
    }

    /// Sends the request and reads one whole frame with the expected number.
    async fn exchange(&self, command: Command, request: &[u8]) -> Result<Vec<u8>, ControlError> {
        let socket = connect(&self.path).map_err(|source| ControlError::NotReachable {
            path: self.path.clone(),
            source: Arc::new(source),
        })?;
        let mut stream = send_at_once(socket, request).map_err(|error| closed_or_failed(command, error))?;

        let mut reply = Vec::new();
        loop {
            reply.reserve(READ_CHUNK);
            let count = match stream.read_buf(&mut reply).await {
                Ok(count) => count,
                Err(error) if reply.is_empty() => return Err(closed_or_failed(command, error)),
                Err(source) => {
                    let source = Arc::new(source);
                    return Err(ControlError::Io { command, source });
                }
            };
            let complete =
                is_complete(&reply, command).map_err(|error| ControlError::undecodable(command, error))?;
            match (count, complete) {
                (_, true) => return Ok(reply),
                (0, false) if reply.is_empty() => {
                    return Err(ControlError::Refused {
                        command,
                        before_reading: false,
                    });
                }
                // The decoder names what is missing.
                (0, false) => return Ok(reply),
                (_, false) => {}
            }
        }
    }
}

/// Whether `reply` holds a whole frame; an error as soon as it cannot become the reply to
/// `command`.
fn is_complete(reply: &[u8], command: Command) -> Result<bool, DecodeError> {
    check_number(reply, command.reply_number())?;
    Ok(frame_end(reply)?.is_some_and(|end| reply.len() >= end))
}

/// Connects without waiting: a Unix socket accepts at once, or its backlog is full.
fn connect(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Sends the request in one system call, or fails: without an await in between, a dropped call
/// cannot leave half a request behind. A new socket's buffer has room for the at most 261 bytes.
fn send_at_once(socket: OwnedFd, request: &[u8]) -> io::Result<UnixStream> {
    let count = retry_on_intr(|| rustix::net::send(&socket, request, SendFlags::NOSIGNAL))?;
    if count < request.len() {
        return Err(ErrorKind::WriteZero.into());
    }
    UnixStream::from_std(socket.into())
}

/// `Refused` for a connection that the peer closed without reading the request, else `Io`.
fn closed_or_failed(command: Command, error: io::Error) -> ControlError {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => ControlError::Refused {
            command,
            before_reading: true,
        },
        _ => ControlError::Io {
            command,
            source: Arc::new(error),
        },
    }
}

/// Encodes a username. ocserv compares names as C strings: a NUL would turn one name into another,
/// and connections that have not logged in have the empty name.
fn username(name: &str) -> Result<Vec<u8>, ControlError> {
    if name.is_empty() {
        return Err(ControlError::Invalid("empty user name"));
    }
    if name.contains('\0') {
        return Err(ControlError::Invalid("NUL in user name"));
    }
    let body = wire::UsernameRequest {
        username: name.as_bytes().to_vec(),
    };
    Ok(body.encode_to_vec())
}

/// Encodes an ID. IDs are pids; a worker that has ended has the pid -1 until ocserv has cleaned up.
fn session_id(id: i32) -> Result<Vec<u8>, ControlError> {
    if id <= 0 {
        return Err(ControlError::Invalid("session id that is not positive"));
    }
    Ok(wire::IdRequest { id }.encode_to_vec())
}
