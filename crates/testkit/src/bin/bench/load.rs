//! The one who asks: threads that connect, send a frame, read a frame and close, as the helper
//! does, and nothing that would make them slower than who answers.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;

use super::process::Program;
use super::report::{Failure, ensure};

/// What an answer has to be, byte by byte: so the check costs the same whoever answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expect<'a> {
    /// The request itself.
    Echo,
    /// This frame.
    Frame(&'a [u8]),
}

/// Who is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) socket: &'a Path,
    pub(crate) program: Program,
    pub(crate) expect: Expect<'a>,
}

/// What came out of a round.
#[derive(Debug)]
pub(crate) struct Round {
    /// From the first request to the last answer.
    pub(crate) time: Duration,
    /// How long each answer took; in an open loop from the time at which the request was due.
    pub(crate) latencies: Vec<Duration>,
    /// The processor time that who was asked used meanwhile.
    pub(crate) spent: Duration,
}

/// Asks with each frame once, `connections` at a time, as fast as answers come.
pub(crate) fn closed_loop(
    target: Target<'_>,
    frames: &[Vec<u8>],
    connections: usize,
) -> Result<Round, Failure> {
    run(target, frames, connections, |_, _| Instant::now())
}

/// Asks with each frame once, `rate` times a second whether answers come or not; at most
/// `connections` wait at a time, and a request that has to wait for its turn waits on the clock.
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
    let before = target.program.processor_time()?;
    let start = Instant::now();
    let worker = || -> io::Result<Vec<Duration>> {
        // Else the kernel lets every sleeper oversleep by 50 µs, which would be the most of what is
        // measured.
        prctl::set_timerslack(1)?;
        let mut latencies = Vec::with_capacity(frames.len() / connections * 2);
        let mut buffer = vec![0; 4096];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(frame) = frames.get(index) else {
                return Ok(latencies);
            };
            let begun = due(start, index);
            ask(target, frame, &mut buffer)?;
            latencies.push(begun.elapsed());
        }
    };
    let latencies = thread::scope(|scope| {
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(worker)).collect();
        let ended = workers.into_iter().map(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread that asks panicked")))
        });
        ended.collect::<io::Result<Vec<_>>>()
    })?;
    let time = start.elapsed();
    let spent = target.program.processor_time()?.saturating_sub(before);
    let latencies = latencies.concat();
    ensure(latencies.len() == frames.len(), "not every request was answered")?;
    Ok(Round {
        time,
        latencies,
        spent,
    })
}

fn ask(target: Target<'_>, frame: &[u8], buffer: &mut [u8]) -> io::Result<()> {
    let mut stream = UnixStream::connect(target.socket)?;
    stream.write_all(frame)?;
    let expected = match target.expect {
        Expect::Echo => frame,
        Expect::Frame(answer) => answer,
    };
    let mut have = 0;
    while have < expected.len() {
        match stream.read(&mut buffer[have..])? {
            0 => break,
            read => have += read,
        }
    }
    if buffer[..have] == *expected {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&buffer[..have]);
    Err(io::Error::other(format!(
        "an answer that was not expected: {said}"
    )))
}
