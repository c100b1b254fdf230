//! The floor for decisions: a server on a Unix socket that echoes a frame. Like the agent it is a
//! process with a multi-threaded runtime, and it uses a connection in the same way: one frame each
//! way, then it closes its side and waits until the peer has closed the other.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};

use testkit::lab::ManagedProcess;
use testkit::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime;
use tokio_util::task::TaskTracker;

use super::process::{self, Process};
use super::report::Failure;

/// The argument that makes this program the echo server; the path of its socket follows.
pub(crate) const FLAG: &str = "--echo-server";

/// The same as the agent's.
const WORKERS: usize = 2;

/// A running echo server; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Echo {
    running: ManagedProcess,
    socket: PathBuf,
}

impl Echo {
    /// Starts one in `directory` and waits until it listens.
    pub(crate) fn start(directory: &Path) -> Result<Self, Failure> {
        let socket = directory.join("echo.sock");
        let mut command = process::killed_with_parent(std::env::current_exe()?);
        command.arg(FLAG).arg(&socket);
        let running = ManagedProcess::spawn("the echo server", command, &directory.join("echo.log"), &[])?;
        running.wait_until("socket", wait::BOUND, || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        })?;
        Ok(Self { running, socket })
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.running.pid())
    }
}

/// Serves until it is killed.
pub(crate) fn serve(socket: &Path) -> io::Result<Infallible> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = UnixListener::bind(socket)?;
        let connections = TaskTracker::new();
        // Like the agent's, the listener is served by a worker, not by the thread that blocks.
        let accepting = connections.clone().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await?;
                connections.spawn(echo(stream));
            }
        });
        accepting.await.map_err(io::Error::other)?
    })
}

/// Serves one connection.
async fn echo(mut stream: UnixStream) -> io::Result<()> {
    const HEAD: usize = 4;
    let mut frame = vec![0; 4096];
    let mut received = 0;
    loop {
        let read = stream.read(&mut frame[received..]).await?;
        received += read;
        if read == 0 {
            return Ok(());
        }
        let length = match frame[..received].first_chunk::<HEAD>() {
            Some(head) => HEAD + usize::try_from(u32::from_be_bytes(*head)).map_err(io::Error::other)?,
            None => continue,
        };
        if received >= length {
            stream.write_all(&frame[..received]).await?;
            stream.shutdown().await?;
            while stream.read(&mut frame).await? > 0 {}
            return Ok(());
        }
        frame.resize(length.max(frame.len()), 0);
    }
}
