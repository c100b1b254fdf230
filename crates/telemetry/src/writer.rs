//! A writer that never makes its callers wait.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How much may wait, in bytes: some thousands of lines. What a stalled reader costs is this and what is being written.
const MAX_WAITING: usize = 2 * 1024 * 1024;
/// The longest line that is written whole, in bytes.
const MAX_LINE: usize = 8 * 1024;
/// How long lines are collected before they are written in one piece.
const COLLECT: Duration = Duration::from_millis(2);
/// A buffer that a rush has made larger than this is not kept.
const MAX_KEPT: usize = 256 * 1024;

/// Where lines go in: takes a line or drops it, at once. The thread that writes ends when the last one is gone.
#[derive(Debug, Clone)]
pub(crate) struct LineSink(Arc<Entrance>);

#[derive(Debug)]
struct Entrance(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Something came in, or nothing ever will.
    filled: Condvar,
    /// Something was written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines taken, written and dropped since the start.
    taken: u64,
    written: u64,
    dropped: u64,
    closed: bool,
}

/// Starts the thread that owns `out`.
pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<LineSink> {
    let shared = Arc::new(Shared::default());
    let entrance = Entrance(Arc::clone(&shared));
    thread::Builder::new()
        .name("log".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || shared.run(out))?;
    Ok(LineSink(Arc::new(entrance)))
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until nothing waits and nothing can come.
    fn run(&self, mut out: impl Write) {
        let (mut batch, mut told, mut torn) = (Vec::new(), 0, false);
        while let Some((taken, dropped)) = self.collect(&mut batch) {
            // A log that cannot be written has nowhere to say so, but what is lost is counted.
            let end_of_torn_line: &[u8] = if torn { b"\n" } else { b"" };
            torn = out
                .write_all(end_of_torn_line)
                .and_then(|()| out.write_all(&batch))
                .is_err();
            if torn {
                let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                self.waiting().dropped += u64::try_from(lines).unwrap_or(u64::MAX);
            } else if dropped > told {
                let missing = dropped - told;
                let _unwritten = writeln!(
                    out,
                    "{{\"level\":\"WARN\",\"message\":\"log lines dropped\",\"lines\":{missing}}}"
                );
                told = dropped;
            }
            let _unwritten = out.flush();
            self.waiting().written = taken;
            self.written.notify_all();
            batch.clear();
            batch.shrink_to(MAX_KEPT);
        }
    }

    /// Swaps the empty `batch` for the lines that came within [`COLLECT`] of the first one; says how many were taken and
    /// dropped by then. While this thread sleeps, whoever logs has nobody to wake.
    fn collect(&self, batch: &mut Vec<u8>) -> Option<(u64, u64)> {
        let is_idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.closed;
        let first = self
            .filled
            .wait_while(self.waiting(), is_idle)
            .unwrap_or_else(PoisonError::into_inner);
        if first.lines.is_empty() {
            return None;
        }
        drop(first);
        thread::sleep(COLLECT);
        let mut waiting = self.waiting();
        std::mem::swap(&mut waiting.lines, batch);
        Some((waiting.taken, waiting.dropped))
    }
}

impl LineSink {
    /// How many lines found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.0.waiting().dropped
    }

    /// Waits until everything that was taken is written, or until `within` has passed. Says whether it is written.
    pub(crate) fn flush(&self, within: Duration) -> bool {
        let shared = &self.0.0;
        let waiting = shared.waiting();
        let taken = waiting.taken;
        let outcome = shared
            .written
            .wait_timeout_while(waiting, within, |waiting| waiting.written < taken);
        !outcome.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Takes one line with its end.
    pub(crate) fn take(&self, line: &[u8]) {
        let shared = &self.0.0;
        let (kept, cut) = match line.get(..MAX_LINE) {
            Some(kept) if kept.len() < line.len() => (kept, &b" [cut]\n"[..]),
            _ => (line, &b""[..]),
        };
        let mut waiting = shared.waiting();
        if waiting.lines.len() + kept.len() + cut.len() > MAX_WAITING {
            waiting.dropped += 1;
            return;
        }
        let is_first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(kept);
        waiting.lines.extend_from_slice(cut);
        waiting.taken += 1;
        drop(waiting);
        if is_first {
            shared.filled.notify_one();
        }
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.waiting().closed = true;
        self.0.filled.notify_one();
    }
}

impl Write for LineSink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineSink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests;
