//! The Unix socket through which `agents` and `action` reach a running portal.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::agents::{Agents, action};
use crate::control_protocol::{Reply, Request};

/// The longest request, in bytes.
const MAX_REQUEST: u64 = 1 << 20;
/// Longest time until a request is read.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The socket; its file is removed when this is dropped.
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds the socket; replaces one that nobody serves.
    pub(super) fn bind(path: &Path) -> anyhow::Result<Self> {
        let bind = || UnixListener::bind(path);
        let is_stale = |error: &io::Error| {
            error.kind() == io::ErrorKind::AddrInUse && std::os::unix::net::UnixStream::connect(path).is_err()
        };
        let listener = match bind() {
            Err(error) if is_stale(&error) => std::fs::remove_file(path).and_then(|()| bind()),
            bound => bound,
        };
        let listener = listener.with_context(|| format!("could not bind {}", path.display()))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("could not protect {}", path.display()))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Serves until `stop`.
    pub(super) async fn serve(self, agents: Arc<Agents>, tasks: TaskTracker, stop: CancellationToken) {
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            let Ok((stream, _)) = accepted else { continue };
            let (agents, stop) = (Arc::clone(&agents), stop.clone());
            tasks.spawn(stop.run_until_cancelled_owned(async move {
                // The caller may have gone.
                let _ = respond(stream, &agents).await;
            }));
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // It may be gone.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn respond(stream: UnixStream, agents: &Agents) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut limited = (&mut stream).take(MAX_REQUEST);
    tokio::time::timeout(READ_TIMEOUT, limited.read_line(&mut line)).await??;
    let reply = match serde_json::from_str(&line) {
        Ok(request) => reply(request, agents).await,
        Err(error) => Reply::Error(error.to_string()),
    };
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    stream.get_mut().write_all(&text).await
}

async fn reply(request: Request, agents: &Agents) -> Reply {
    match request {
        Request::Agents => Reply::Agents(agents.list()),
        Request::Action {
            agent,
            action: name,
            parameters,
            request_id,
            timeout_seconds,
        } => {
            let message = action(&request_id, &name, parameters);
            let result = match agents.send(&agent, &request_id, message) {
                Ok(result) => result,
                Err(error) => return Reply::Error(error),
            };
            match tokio::time::timeout(Duration::from_secs(timeout_seconds), result).await {
                Ok(Ok(result)) => Reply::Result(result),
                Ok(Err(_)) => Reply::Error("replaced by a later action with the same request id".to_owned()),
                Err(_) => {
                    agents.forget(&agent, &request_id);
                    Reply::Error(format!("no result within {timeout_seconds} s"))
                }
            }
        }
    }
}
