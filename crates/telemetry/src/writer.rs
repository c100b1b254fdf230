//! A writer that never makes its callers wait.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait.
const MAX_LINES: usize = 2048;
/// The longest line that is written whole, in bytes. With [`MAX_LINES`] it bounds what a stalled reader costs.
const MAX_LINE: usize = 8 * 1024;
/// How often a flush looks whether the queue has room again.
const FLUSH_STEP: Duration = Duration::from_millis(5);

/// How long lines are collected before they are written in one piece.
const COLLECT: Duration = Duration::from_millis(2);
/// How much is written in one piece, in bytes, and a line more.
const MAX_BATCH: usize = 64 * 1024;

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// A started writer. Its thread ends when the last [`LineSink`] is gone.
pub(crate) struct Writer {
    /// Where lines go in.
    pub(crate) sink: LineSink,
}

/// Where lines go in: takes a line or drops it, at once.
#[derive(Debug, Clone)]
pub(crate) struct LineSink {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

/// Starts the thread that owns `out`.
pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<Writer> {
    let (queue, lines) = sync_channel(MAX_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&dropped);
    thread::Builder::new()
        .name("log".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || run(out, &lines, &seen))?;
    Ok(Writer {
        sink: LineSink { queue, dropped },
    })
}

fn run(mut out: impl Write, lines: &Receiver<Message>, dropped: &AtomicU64) {
    let mut told = 0;
    while let Ok(first) = lines.recv() {
        let batch = collect(first, lines);
        // A log that cannot be written has nowhere to say so.
        let _unwritten = out.write_all(&batch.lines);
        let lost = dropped.load(Ordering::Relaxed);
        if lost > told {
            let missing = lost - told;
            let _unwritten = writeln!(
                out,
                "{{\"level\":\"WARN\",\"message\":\"log lines dropped\",\"lines\":{missing}}}"
            );
            told = lost;
        }
        if let Some(done) = batch.flush {
            let _unwritten = out.flush();
            let _gave_up = done.try_send(());
        }
    }
}

/// What is written in one piece.
struct Batch {
    lines: Vec<u8>,
    /// Somebody waits until these lines are written.
    flush: Option<SyncSender<()>>,
}

/// The first message and those that come within [`COLLECT`] of it, up to a flush or [`MAX_BATCH`]. While this thread
/// sleeps, whoever logs has nobody to wake.
fn collect(first: Message, lines: &Receiver<Message>) -> Batch {
    let mut batch = Batch {
        lines: Vec::new(),
        flush: None,
    };
    let (mut next, mut slept) = (Some(first), false);
    while batch.lines.len() < MAX_BATCH {
        match next {
            Some(Message::Line(line)) => batch.lines.extend_from_slice(&line),
            Some(Message::Flush(done)) => {
                batch.flush = Some(done);
                break;
            }
            None if slept => break,
            None => {
                thread::sleep(COLLECT);
                slept = true;
            }
        }
        next = lines.try_recv().ok();
    }
    batch
}

impl LineSink {
    /// How many lines found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything that was taken is written, or until `within` has passed. Says whether it is written.
    pub(crate) fn flush(&self, within: Duration) -> bool {
        let (done, written) = sync_channel(1);
        let mut message = Message::Flush(done);
        let mut left = within;
        loop {
            match self.queue.try_send(message) {
                Ok(()) => return written.recv_timeout(left).is_ok(),
                Err(TrySendError::Full(unsent)) if left > FLUSH_STEP => {
                    thread::sleep(FLUSH_STEP);
                    left -= FLUSH_STEP;
                    message = unsent;
                }
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return false,
            }
        }
    }

    fn take(&self, line: &[u8]) {
        let mut kept = line.get(..MAX_LINE).unwrap_or(line).to_vec();
        if kept.len() < line.len() {
            kept.extend_from_slice(b" [cut]\n");
        }
        if self.queue.try_send(Message::Line(kept)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
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
