//! The load generator: threads that connect, send a frame, read a frame and close, as the helper
//! does, without anything that would make them slower than the server.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;

use super::process::Process;
use super::report::{Failure, ensure};

/// The expected response, byte by byte: its check costs the same for every server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected<'a> {
    /// The request itself.
    Echo,
    /// This frame.
    Frame(&'a [u8]),
}

/// The server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) socket: &'a Path,
    pub(crate) process: Process,
    pub(crate) expected: Expected<'a>,
}

/// The results of a round.
#[derive(Debug)]
pub(crate) struct Round {
    /// From the first request to the last response.
    pub(crate) time: Duration,
    /// The latency of each request; in an open loop, from the time at which it was due.
    pub(crate) latencies: Vec<Duration>,
    /// The processor time of the server.
    pub(crate) processor_time: Duration,
}

/// Sends each frame once, over `connections` concurrent connections, as fast as responses are read.
pub(crate) fn closed_loop(
    target: Target<'_>,
    frames: &[Vec<u8>],
    connections: usize,
) -> Result<Round, Failure> {
    run(target, frames, connections, |_, _| Instant::now())
}

/// Sends each frame once, `rate` a second independently of responses, over at most `connections`
/// concurrent connections. The wait for a free one counts as latency.
pub(crate) fn open_loop(
    target: Target<'_>,
    frames: &[Vec<u8>],
    connections: usize,
    rate: u32,
) -> Result<Round, Failure> {
    let interval = Duration::from_secs(1) / rate;
    run(target, frames, connections, |start, index| {
        let due = start + interval * u32::try_from(index).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due
    })
}

fn run(
    target: Target<'_>,
    frames: &[Vec<u8>],
    connections: usize,
    due: impl Fn(Instant, usize) -> Instant + Sync,
) -> Result<Round, Failure> {
    let next = AtomicUsize::new(0);
    let before = target.process.processor_time()?;
    let start = Instant::now();
    let worker = || -> io::Result<Vec<Duration>> {
        // Otherwise the kernel extends every sleep by up to 50 µs, more than what is measured.
        prctl::set_timerslack(1)?;
        let mut latencies = Vec::with_capacity(frames.len() / connections * 2);
        let mut buffer = vec![0; 4096];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(frame) = frames.get(index) else {
                return Ok(latencies);
            };
            let sent_at = due(start, index);
            exchange(target, frame, &mut buffer)?;
            latencies.push(sent_at.elapsed());
        }
    };
    let latencies = thread::scope(|scope| {
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(worker)).collect();
        let results = workers.into_iter().map(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread of the load generator panicked")))
        });
        results.collect::<io::Result<Vec<_>>>()
    })?;
    let time = start.elapsed();
    let processor_time = target.process.processor_time()?.saturating_sub(before);
    let latencies = latencies.concat();
    ensure(latencies.len() == frames.len(), "a request got no response")?;
    Ok(Round {
        time,
        latencies,
        processor_time,
    })
}

fn exchange(target: Target<'_>, frame: &[u8], buffer: &mut [u8]) -> io::Result<()> {
    let mut stream = UnixStream::connect(target.socket)?;
    stream.write_all(frame)?;
    let expected = match target.expected {
        Expected::Echo => frame,
        Expected::Frame(response) => response,
    };
    let mut received = 0;
    while received < expected.len() {
        match stream.read(&mut buffer[received..])? {
            0 => break,
            read => received += read,
        }
    }
    if buffer[..received] == *expected {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&buffer[..received]);
    Err(io::Error::other(format!("unexpected response: {text}")))
}
