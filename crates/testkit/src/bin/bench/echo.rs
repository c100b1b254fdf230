//! The floor for decisions: a server on a Unix socket that sends a frame back and does nothing
//! else. It runs as the agent does, in a process of its own with the same runtime, and holds the
//! same conversation: one frame each way, the end of its side, and then it waits for the end of the
//! other, for that is how an agent knows that its answer was taken.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};

use testkit::lab::ManagedProcess;
use testkit::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime;
use tokio_util::task::TaskTracker;

use super::process::{self, Program};
use super::report::Failure;

/// Makes this program the echo server; the socket follows.
pub(crate) const FLAG: &str = "--echo-server";

/// The same as the agent's.
const WORKERS: usize = 2;

/// A running echo server; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Echo {
    running: ManagedProcess,
    socket: PathBuf,
}

impl Echo {
    /// Starts one in `directory` and waits until it listens.
    pub(crate) fn start(directory: &Path) -> Result<Self, Failure> {
        let socket = directory.join("echo.sock");
        let mut command = process::tied(std::env::current_exe()?);
        command.arg(FLAG).arg(&socket);
        let running = ManagedProcess::spawn("the echo server", command, &directory.join("echo.log"), &[])?;
        running.wait_until("its socket", wait::BOUND, || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        })?;
        Ok(Self { running, socket })
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn program(&self) -> Program {
        Program(self.running.pid())
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
        // As the agent does it, the listener is served by a worker and not by the thread that
        // waits.
        let accepting = connections.clone().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await?;
                connections.spawn(echo(stream));
            }
        });
        accepting.await.map_err(io::Error::other)?
    })
}

/// One conversation.
async fn echo(mut stream: UnixStream) -> io::Result<()> {
    const HEAD: usize = 4;
    let mut frame = vec![0; 4096];
    let mut have = 0;
    loop {
        let read = stream.read(&mut frame[have..]).await?;
        have += read;
        if read == 0 {
            return Ok(());
        }
        let whole = match frame[..have].first_chunk::<HEAD>() {
            Some(head) => HEAD + usize::try_from(u32::from_be_bytes(*head)).map_err(io::Error::other)?,
            None => continue,
        };
        if have >= whole {
            stream.write_all(&frame[..have]).await?;
            stream.shutdown().await?;
            while stream.read(&mut frame).await? > 0 {}
            return Ok(());
        }
        frame.resize(whole.max(frame.len()), 0);
    }
}
