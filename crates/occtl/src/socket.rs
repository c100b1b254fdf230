//! The connection: one for each call, the request in one write, one time limit around everything.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
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

/// Room that is made for each read of a reply. It grows with what arrives, not with what the header announces.
const READ: usize = 16 << 10;

/// Longer than any name that ocserv can hold (63 bytes), so that nobody has it.
const NOBODY: [u8; 200] = [b'-'; 200];

/// The control socket of one ocserv, `/run/occtl.socket` unless `occtl-socket-file` says otherwise. ocserv answers only uid
/// 0, whatever the file's mode.
///
/// Each call opens a connection of its own; calls may run at the same time. ocserv's main process answers them one after
/// another and waits for a slow reader of a long answer, so do not run this on a runtime that is blocked by other work.
///
/// A call that is dropped, or that ran out of time, has sent its whole request or none of it, never a piece that ocserv
/// would wait to see completed. ocserv may still do what was asked.
#[derive(Clone)]
pub struct ControlSocket {
    path: PathBuf,
    timeout: Duration,
    observer: Option<Observer>,
}

/// Hears how each request on a [`ControlSocket`] ended: what was asked, what went wrong if anything did, and how long it
/// took. It runs before the caller gets the answer, so it must be quick. A call that is dropped is not told.
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
    /// The socket at `path`; `timeout` bounds each call as a whole. Nothing is opened yet.
    #[must_use]
    pub const fn new(path: PathBuf, timeout: Duration) -> Self {
        Self {
            path,
            timeout,
            observer: None,
        }
    }

    /// The same socket, whose requests `observer` hears of.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Self {
        Self {
            observer: Some(observer),
            ..self
        }
    }

    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the server is.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Invalid` and `Unsupported`.
    pub async fn status(&self) -> Result<Status, ControlError> {
        self.ask(Command::Status, &[], decode_status).await
    }

    /// All connections, newest first, including those that have not logged in.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Invalid` and `Unsupported`.
    pub async fn list(&self) -> Result<Vec<Session>, ControlError> {
        self.ask(Command::List, &[], decode_list).await
    }

    /// The connections of the user with exactly this name, on all virtual hosts; none if there is no such user.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Unsupported`. `Invalid`: an empty name, a NUL in it, or over 250 bytes.
    pub async fn user(&self, name: &str) -> Result<Vec<Session>, ControlError> {
        self.ask(Command::User, &username(name)?, decode_list).await
    }

    /// The connection with this ID, if there is one.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Unsupported`. `Invalid`: an ID that is not positive.
    pub async fn id(&self, id: i32) -> Result<Option<Session>, ControlError> {
        let sessions = self.ask(Command::Id, &session_id(id)?, decode_list).await?;
        Ok(sessions.into_iter().find(|session| session.id == id))
    }

    /// Ends all connections of the user with exactly this name, on all virtual hosts, and voids the cookies of these
    /// logins. `true`: they were told to end; they stay listed as connected until they have. `false`: there was none. A
    /// login without a connection stays; see [`terminate_session`](Self::terminate_session).
    ///
    /// # Errors
    /// All of [`ControlError`] but `Unsupported`. `Invalid`: an empty name, a NUL in it, or over 250 bytes.
    pub async fn disconnect_user(&self, name: &str) -> Result<bool, ControlError> {
        self.act(Command::DisconnectUser, &username(name)?).await
    }

    /// Ends the connection with this ID and voids its login's cookie. `true`: it was told to end; it stays listed as
    /// connected until it has, and a second call says `true` as well. `false`: there was none.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Unsupported`. `Invalid`: an ID that is not positive.
    pub async fn disconnect_id(&self, id: i32) -> Result<bool, ControlError> {
        self.act(Command::DisconnectId, &session_id(id)?).await
    }

    /// All logins that ocserv remembers, with or without a connection, including failed ones for a while.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Invalid` and `Unsupported`.
    pub async fn cookies(&self) -> Result<Vec<Cookie>, ControlError> {
        self.ask(Command::ListCookies, &[], decode_cookies).await
    }

    /// Ends a login: its connection, if it has one, and its cookie. `false` if ocserv does not know it. ocserv 1.4.2 and
    /// newer.
    ///
    /// A connection that is ended this way reports no byte counts to its disconnect-script. To keep them, end the
    /// connection with [`disconnect_id`](Self::disconnect_id), and use this for logins without one.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Invalid`. An older ocserv answers nothing, as one does that refuses this process. Then
    /// `status` is asked on the same socket: if that is answered the error is `Unsupported`, else it is `Refused`. (An
    /// ocserv that is replaced between the two is the one case in which `Unsupported` may be wrong.) The call takes up to
    /// two time limits in this case.
    pub async fn terminate_session(&self, safe_id: &SafeId) -> Result<bool, ControlError> {
        let body = wire::SafeIdRequest {
            safe_id: safe_id.as_str().into(),
        };
        let answer = self.act(Command::TerminateSession, &body.encode_to_vec()).await;
        self.tell_unsupported(answer).await
    }

    /// Whether this ocserv knows the `terminate` requests, as 1.4.2 and newer do.
    ///
    /// Asks it to end the sessions of a user whose name is longer than ocserv can hold, which ends nobody's. An ocserv that
    /// does not know the request writes an error to its log, so ask once for each start of ocserv
    /// ([`Status::main_pid`] and [`Status::started_at`]) and keep the answer.
    ///
    /// # Errors
    /// All of [`ControlError`] but `Invalid` and `Unsupported`; nothing is known then.
    pub async fn knows_terminate(&self) -> Result<bool, ControlError> {
        let body = wire::UsernameRequest {
            username: NOBODY.to_vec(),
        };
        let answer = self.act(Command::TerminateUser, &body.encode_to_vec()).await;
        match self.tell_unsupported(answer).await {
            Ok(_) => Ok(true),
            Err(ControlError::Unsupported { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Turns a refusal into `Unsupported` if ocserv answers this process otherwise.
    async fn tell_unsupported(&self, answer: Result<bool, ControlError>) -> Result<bool, ControlError> {
        match answer {
            Err(ControlError::Refused { command, .. }) if self.status().await.is_ok() => {
                Err(ControlError::Unsupported { command })
            }
            answer => answer,
        }
    }

    async fn act(&self, command: Command, body: &[u8]) -> Result<bool, ControlError> {
        self.ask(command, body, |reply| decode_bool(reply, command)).await
    }

    async fn ask<T>(
        &self,
        command: Command,
        body: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, ControlError> {
        let request = encode_request(command, body)?;
        let begin = clock::now();
        let answer = self.answer(command, &request, decode).await;
        if let Some(observer) = &self.observer {
            observer(
                command,
                answer.as_ref().err(),
                clock::now().saturating_duration_since(begin),
            );
        }
        answer
    }

    async fn answer<T>(
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

    /// Sends the request and reads one whole frame of the right number.
    async fn exchange(&self, command: Command, request: &[u8]) -> Result<Vec<u8>, ControlError> {
        let mut stream =
            UnixStream::connect(&self.path)
                .await
                .map_err(|source| ControlError::NotReachable {
                    path: self.path.clone(),
                    source,
                })?;
        write_at_once(&stream, request)
            .await
            .map_err(|error| closed_or_failed(command, error))?;

        let mut reply = Vec::new();
        loop {
            reply.reserve(READ);
            let count = match stream.read_buf(&mut reply).await {
                Ok(count) => count,
                Err(error) if reply.is_empty() => return Err(closed_or_failed(command, error)),
                Err(source) => return Err(ControlError::Io { command, source }),
            };
            let whole = whole(&reply, command).map_err(|error| ControlError::undecodable(command, error))?;
            match (count, whole) {
                (_, true) => return Ok(reply),
                (0, false) if reply.is_empty() => {
                    return Err(ControlError::Refused {
                        command,
                        before_reading: false,
                    });
                }
                // The decoder says what is missing.
                (0, false) => return Ok(reply),
                (_, false) => {}
            }
        }
    }
}

/// Whether `reply` holds a whole frame; an error as soon as it cannot become the one that is awaited.
fn whole(reply: &[u8], command: Command) -> Result<bool, DecodeError> {
    check_number(reply, command.reply())?;
    Ok(frame_end(reply)?.is_some_and(|end| reply.len() >= end))
}

/// Writes all in one system call, or fails. There is no await between the first byte and the last, so that a dropped
/// call cannot leave half a request behind. The socket is fresh and the request is under 300 bytes: it fits.
async fn write_at_once(stream: &UnixStream, request: &[u8]) -> io::Result<()> {
    loop {
        stream.writable().await?;
        match stream.try_write(request) {
            Ok(count) if count == request.len() => return Ok(()),
            Ok(_) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// A connection that the peer closed without reading what was sent is a refusal; anything else is a failure.
fn closed_or_failed(command: Command, error: io::Error) -> ControlError {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => ControlError::Refused {
            command,
            before_reading: true,
        },
        _ => ControlError::Io {
            command,
            source: error,
        },
    }
}

/// ocserv compares names as C strings: a NUL would cut the name into another one, and connections that have not logged
/// in have the empty name.
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

/// IDs are pids. ocserv gives a worker that is gone the pid -1 until it has cleaned up.
fn session_id(id: i32) -> Result<Vec<u8>, ControlError> {
    if id <= 0 {
        return Err(ControlError::Invalid("session id that is not positive"));
    }
    Ok(wire::IdRequest { id }.encode_to_vec())
}
