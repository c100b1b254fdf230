//! A writer that never blocks its callers.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// The largest queue, in bytes: some thousands of lines. A stalled reader costs this and one batch.
const MAX_QUEUED: usize = 2 * 1024 * 1024;
/// The longest line, in bytes; a longer one is truncated.
const MAX_LINE: usize = 8 * 1024;
/// Time for which lines are collected into one batch.
const BATCH_INTERVAL: Duration = Duration::from_millis(2);
/// The largest buffer that is kept for the next batch, in bytes.
const MAX_SPARE_CAPACITY: usize = 256 * 1024;

/// Queues lines, or drops them, without blocking. The writer thread ends with the last clone.
#[derive(Debug, Clone)]
pub(crate) struct LineSink(Arc<CloseOnDrop>);

#[derive(Debug)]
struct CloseOnDrop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Signals that lines are queued or the queue is closed.
    available: Condvar,
    /// Signals that a batch was written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    /// Lines queued, written and dropped since the start.
    queued: u64,
    written: u64,
    dropped: u64,
    closed: bool,
}

/// Starts the thread that owns `out`.
pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<LineSink> {
    let shared = Arc::new(Shared::default());
    let queue = CloseOnDrop(Arc::clone(&shared));
    thread::Builder::new()
        .name("log".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || shared.run(out))?;
    Ok(LineSink(Arc::new(queue)))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes batches until the queue is closed and empty.
    fn run(&self, mut out: impl Write) {
        let (mut batch, mut reported, mut partial_line) = (Vec::new(), 0, false);
        while let Some((queued, dropped)) = self.collect(&mut batch) {
            // A write error cannot be logged, but the lost lines are counted.
            let end_of_line: &[u8] = if partial_line { b"\n" } else { b"" };
            partial_line = out
                .write_all(end_of_line)
                .and_then(|()| out.write_all(&batch))
                .is_err();
            if partial_line {
                let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                self.lock().dropped += u64::try_from(lines).unwrap_or(u64::MAX);
            } else if dropped > reported {
                let missing = dropped - reported;
                let _unwritten = writeln!(
                    out,
                    "{{\"level\":\"WARN\",\"message\":\"log lines dropped\",\"lines\":{missing}}}"
                );
                reported = dropped;
            }
            let _unwritten = out.flush();
            self.lock().written = queued;
            self.written.notify_all();
            batch.clear();
            batch.shrink_to(MAX_SPARE_CAPACITY);
        }
    }

    /// Swaps the empty `batch` for the lines of [`BATCH_INTERVAL`] from the first; returns how many
    /// have been queued and dropped. `None` when the queue is closed. While this thread sleeps,
    /// callers need not wake it.
    fn collect(&self, batch: &mut Vec<u8>) -> Option<(u64, u64)> {
        let is_idle = |queue: &mut Queue| queue.lines.is_empty() && !queue.closed;
        let first = self
            .available
            .wait_while(self.lock(), is_idle)
            .unwrap_or_else(PoisonError::into_inner);
        if first.lines.is_empty() {
            return None;
        }
        drop(first);
        thread::sleep(BATCH_INTERVAL);
        let mut queue = self.lock();
        std::mem::swap(&mut queue.lines, batch);
        Some((queue.queued, queue.dropped))
    }
}

impl LineSink {
    /// Returns the number of dropped lines.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.0.lock().dropped
    }

    /// Waits at most `timeout` until all queued lines are written. Returns whether they are.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let shared = &self.0.0;
        let queue = shared.lock();
        let queued = queue.queued;
        let outcome = shared
            .written
            .wait_timeout_while(queue, timeout, |queue| queue.written < queued);
        !outcome.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Queues one line, newline included.
    pub(crate) fn push(&self, line: &[u8]) {
        let shared = &self.0.0;
        let (kept, suffix) = match line.get(..MAX_LINE) {
            Some(kept) if kept.len() < line.len() => (kept, &b" [cut]\n"[..]),
            _ => (line, &b""[..]),
        };
        let mut queue = shared.lock();
        if queue.lines.len() + kept.len() + suffix.len() > MAX_QUEUED {
            queue.dropped += 1;
            return;
        }
        let is_first = queue.lines.is_empty();
        queue.lines.extend_from_slice(kept);
        queue.lines.extend_from_slice(suffix);
        queue.queued += 1;
        drop(queue);
        if is_first {
            shared.available.notify_one();
        }
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.available.notify_one();
    }
}

impl Write for LineSink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
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
